"""Which targets objects of Kubernetes stand for, by role: pure functions of what is known of them.

Source: Prometheus, discovery/kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varve.gateway.scrape.discovery_config import AttachMetadata
from varve.gateway.scrape.kubernetes.objects import (
    META,
    Key,
    Labels,
    Object,
    annotated,
    container_id,
    container_labels,
    containers_of,
    controller_of,
    key_of,
    label_name,
    named,
    node_addresses,
    node_labels,
    pod_labels,
    port_labels,
    service_labels,
)
from varve.gateway.scrape.targets import TargetGroup, host_port

_SERVICE_OF_SLICE = "kubernetes.io/service-name"


@dataclass
class Known:
    """What is known of a cluster: objects by kind (pods, nodes, ...), then by namespace and name.
    attach: what else targets are told of.
    """

    attach: AttachMetadata = field(default_factory=AttachMetadata)
    objects: dict[str, dict[Key, Object]] = field(default_factory=dict)

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        return self.objects.get(kind, {}).get((namespace, name))

    def all(self, kind: str) -> list[Object]:
        """In order of namespace and name."""
        found = self.objects.get(kind, {})
        return [found[key] for key in sorted(found)]

    def namespace_labels(self, namespace: str) -> Labels:
        """What is attached of a namespace."""
        found = self.find("namespaces", "", namespace) if self.attach.namespace else None
        return annotated(found, "namespace") if found else {}

    def attached_node(self, name: str | None) -> Labels:
        found = self.find("nodes", "", name or "") if self.attach.node else None
        return node_labels(found) if found else {}

    def pod_labels(self, pod: Object) -> Labels:
        """Of a pod, and of what keeps the one that keeps it."""
        labels, owner = pod_labels(pod), controller_of(pod)
        namespace, kind, name = key_of(pod)[0], owner.get("kind"), owner.get("name", "")
        if kind == "ReplicaSet" and self.attach.deployment:
            above = self._controller("replicasets", namespace, name)
            if above.get("kind") == "Deployment":
                labels[f"{META}pod_deployment_name"] = above["name"]
        if kind == "Job" and self.attach.job:
            labels[f"{META}pod_job_name"] = name
        if kind == "Job" and self.attach.cronjob:
            above = self._controller("jobs", namespace, name)
            if above.get("kind") == "CronJob":
                labels[f"{META}pod_cronjob_name"] = above["name"]
        return labels

    def _controller(self, kind: str, namespace: str, name: str) -> Mapping[str, Any]:
        found = self.find(kind, namespace, name)
        return controller_of(found) if found else {}


def groups_of(role: str, known: Known) -> list[TargetGroup]:
    """The targets of a role, a group for each object, in order of namespace and name."""
    kind, build = _ROLES[role]
    found = []
    for each in known.all(kind):
        group = build(each, known)
        if group is not None:
            found.append(group)
    return found


def kinds_of(role: str, attach: AttachMetadata) -> dict[str, str]:
    """The kinds of objects that a role looks at, and the role whose selectors hold for each."""
    kinds = {_ROLES[role][0]: role}
    has_pods = role in ("pod", "endpoints", "endpointslice")
    if role in ("endpoints", "endpointslice"):
        kinds |= {"services": "service", "pods": "pod"}
    if attach.node and has_pods:
        kinds["nodes"] = "node"
    if attach.namespace and role != "node":
        kinds["namespaces"] = ""
    if attach.deployment and has_pods:
        kinds["replicasets"] = ""
    if attach.cronjob and has_pods:
        kinds["jobs"] = ""
    return kinds


def _node(node: Object, _: Known) -> TargetGroup | None:
    name = node["metadata"]["name"]
    address, labels = node_addresses(node)
    if not address:
        return None
    endpoints = node.get("status", {}).get("daemonEndpoints", {})
    port = endpoints.get("kubeletEndpoint", {}).get("Port", 0)
    target = {"__address__": host_port(address, port), "instance": name} | labels
    return TargetGroup(f"node/{name}", [target], node_labels(node))


def _pod(pod: Object, known: Known) -> TargetGroup | None:
    namespace, name = key_of(pod)
    ip, node = pod.get("status", {}).get("podIP"), pod.get("spec", {}).get("nodeName", "")
    # A pod that is starting has no address; a node that is not known was not selected.
    if not ip or (known.attach.node and known.find("nodes", "", node) is None):
        return None
    labels = known.pod_labels(pod) | {f"{META}namespace": namespace}
    labels |= known.attached_node(node) | known.namespace_labels(namespace)
    targets: list[Labels] = []
    for container, is_init in containers_of(pod):
        own = container_labels(container, is_init=is_init)
        own[f"{META}pod_container_id"] = container_id(pod, container, is_init=is_init)
        ports = container.get("ports") or ()
        targets += [
            own | port_labels(port) | {"__address__": host_port(ip, port["containerPort"])}
            for port in ports
        ]
        if not ports:
            targets.append(own | {"__address__": ip})
    return TargetGroup(f"pod/{namespace}/{name}", targets, labels)


def _service(service: Object, known: Known) -> TargetGroup | None:
    namespace, name = key_of(service)
    spec = service.get("spec", {})
    kind = spec.get("type", "")
    common = {f"{META}service_type": kind}
    if kind == "ExternalName":
        common[f"{META}service_external_name"] = spec.get("externalName", "")
    else:
        common[f"{META}service_cluster_ip"] = spec.get("clusterIP", "")
    if kind == "LoadBalancer":
        common[f"{META}service_loadbalancer_ip"] = spec.get("loadBalancerIP", "")
    targets = [
        common
        | {
            "__address__": host_port(f"{name}.{namespace}.svc", port["port"]),
            f"{META}service_port_name": port.get("name", ""),
            f"{META}service_port_number": str(port["port"]),
            f"{META}service_port_protocol": port.get("protocol", "TCP"),
        }
        for port in spec.get("ports") or ()
    ]
    labels = service_labels(service) | known.namespace_labels(namespace)
    return TargetGroup(f"svc/{namespace}/{name}", targets, labels)


class _Endpoints:
    """Targets of a service: its endpoints, and the other ports of the pods behind them."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.targets: list[Labels] = []
        self._pods: dict[Key, tuple[Object, set[int]]] = {}

    def add(
        self, target: Labels, reference: Object, node: str | None, port: int | None, protocol: str
    ) -> None:
        """Appends an endpoint. reference: the object that it is; empty if that is not said.
        protocol: of its port, "" if the container says it.
        """
        kind, name = reference.get("kind"), reference.get("name", "")
        target = target | self._known.attached_node(name if kind == "Node" else node)
        pod = None
        if kind == "Pod":
            pod = self._known.find("pods", reference.get("namespace", ""), name)
        if pod is not None:
            _, ports = self._pods.setdefault(key_of(pod), (pod, set()))
            target |= self._known.pod_labels(pod)
            for container, is_init in containers_of(pod):
                for own in container.get("ports") or ():
                    if port is not None and own["containerPort"] == port:
                        target |= container_labels(container, is_init=is_init) | port_labels(own)
                        if protocol:
                            target[f"{META}pod_container_port_protocol"] = protocol
                        break
            if port is not None:
                ports.add(port)
        self.targets.append(target)

    def all(self) -> list[Labels]:
        return [*self.targets, *self._other_ports()]

    def _other_ports(self) -> Iterator[Labels]:
        for pod, ports in self._pods.values():
            ip = pod.get("status", {}).get("podIP")
            for container, is_init in containers_of(pod) if ip else ():
                for port in container.get("ports") or ():
                    if port["containerPort"] not in ports:
                        yield (
                            {"__address__": host_port(ip, port["containerPort"])}
                            | container_labels(container, is_init=is_init)
                            | port_labels(port)
                            | self._known.pod_labels(pod)
                        )


def _endpoints(endpoints: Object, known: Known) -> TargetGroup | None:
    namespace, name = key_of(endpoints)
    found = _Endpoints(known)
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            protocol = port.get("protocol", "TCP")
            for field_, ready in (("addresses", "true"), ("notReadyAddresses", "false")):
                for address in subset.get(field_) or ():
                    reference = address.get("targetRef") or {}
                    target = {
                        "__address__": host_port(address["ip"], port["port"]),
                        f"{META}endpoint_port_name": port.get("name", ""),
                        f"{META}endpoint_port_protocol": protocol,
                        f"{META}endpoint_ready": ready,
                        f"{META}endpoint_address_target_kind": reference.get("kind", ""),
                        f"{META}endpoint_address_target_name": reference.get("name", ""),
                        f"{META}endpoint_node_name": address.get("nodeName", ""),
                        f"{META}endpoint_hostname": address.get("hostname", ""),
                    }
                    node = address.get("nodeName")
                    if node is not None and reference.get("kind") == "Node":
                        reference = {}
                    found.add(target, reference, node, port["port"], protocol)
    labels = {f"{META}namespace": namespace}
    if service := known.find("services", namespace, name):
        labels |= service_labels(service)
    labels |= named(endpoints, "endpoints") | known.namespace_labels(namespace)
    return TargetGroup(f"endpoints/{namespace}/{name}", found.all(), labels)


def _slice(found: Object, known: Known) -> TargetGroup | None:
    namespace, name = key_of(found)
    kind = found.get("addressType", "")
    of_service = (found["metadata"].get("labels") or {}).get(_SERVICE_OF_SLICE, "")
    service = known.find("services", namespace, of_service)
    labels = {f"{META}namespace": namespace, f"{META}endpointslice_address_type": kind}
    labels |= named(found, "endpointslice")
    labels |= service_labels(service) if service else {}
    labels |= known.namespace_labels(namespace)
    endpoints = _Endpoints(known)
    if not (service and _is_second_family(service, kind)):
        for endpoint in found.get("endpoints") or ():
            for port in found.get("ports") or ():
                for address in endpoint.get("addresses") or ():
                    number = port.get("port")
                    target = _endpoint_labels(endpoint) | _slice_port_labels(port)
                    target["__address__"] = host_port(address, number) if number else address
                    reference = endpoint.get("targetRef") or {}
                    endpoints.add(target, reference, endpoint.get("nodeName"), number, "")
    return TargetGroup(f"endpointslice/{namespace}/{name}", endpoints.all(), labels)


def _is_second_family(service: Object, address_type: str) -> bool:
    """Whether a slice says the same as another one of the service, by its second IP family."""
    spec = service.get("spec", {})
    families: Sequence[str] = spec.get("ipFamilies") or ()
    is_dual = spec.get("ipFamilyPolicy") in ("PreferDualStack", "RequireDualStack")
    return is_dual and bool(families) and address_type != families[0]


def _slice_port_labels(port: Object) -> Labels:
    labels = {
        "port_name": port.get("name"),
        "port_protocol": port.get("protocol"),
        "port": port.get("port"),
        "port_app_protocol": port.get("appProtocol"),
    }
    return {f"{META}endpointslice_{n}": str(v) for n, v in labels.items() if v is not None}


def _endpoint_labels(endpoint: Object) -> Labels:
    reference, conditions = endpoint.get("targetRef") or {}, endpoint.get("conditions") or {}
    labels = {
        "endpoint_hostname": endpoint.get("hostname"),
        "endpoint_node_name": endpoint.get("nodeName"),
        "endpoint_zone": endpoint.get("zone"),
        "address_target_kind": reference.get("kind"),
        "address_target_name": reference.get("name"),
    }
    for name in ("ready", "serving", "terminating"):
        if (value := conditions.get(name)) is not None:
            labels[f"endpoint_conditions_{name}"] = "true" if value else "false"
    for name, value in (endpoint.get("deprecatedTopology") or {}).items():
        labels[f"endpoint_topology_{label_name(name)}"] = value
        labels[f"endpoint_topology_present_{label_name(name)}"] = "true"
    return {f"{META}endpointslice_{n}": v for n, v in labels.items() if v is not None}


def _ingress(ingress: Object, known: Known) -> TargetGroup | None:
    namespace, name = key_of(ingress)
    spec = ingress.get("spec", {})
    secured = [host for tls in spec.get("tls") or () for host in tls.get("hosts") or ()]
    targets: list[Labels] = []
    for rule in spec.get("rules") or ():
        host, http = rule.get("host", ""), rule.get("http")
        is_secured = any(_matches(pattern, host) for pattern in secured)
        paths = [{"path": "/"}] if http is None else http.get("paths") or ()
        targets += [
            {
                "__address__": host,
                f"{META}ingress_scheme": "https" if is_secured else "http",
                f"{META}ingress_host": host,
                f"{META}ingress_path": path.get("path") or "/",
            }
            for path in paths
        ]
    labels = {
        f"{META}namespace": namespace,
        f"{META}ingress_class_name": spec.get("ingressClassName", ""),
    }
    labels |= named(ingress, "ingress") | known.namespace_labels(namespace)
    return TargetGroup(f"ingress/{namespace}/{name}", targets, labels)


def _matches(pattern: str, host: str) -> bool:
    """Whether a host is meant by the name of a certificate, whose first part may be any."""
    if pattern == host:
        return True
    first, _, rest = pattern.partition(".")
    return first == "*" and bool(rest) and host.partition(".")[2] == rest


_ROLES: dict[str, tuple[str, Callable[[Object, Known], TargetGroup | None]]] = {
    "node": ("nodes", _node),
    "pod": ("pods", _pod),
    "service": ("services", _service),
    "endpoints": ("endpoints", _endpoints),
    "endpointslice": ("endpointslices", _slice),
    "ingress": ("ingresses", _ingress),
}
