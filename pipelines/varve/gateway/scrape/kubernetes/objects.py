"""Objects of Kubernetes' API as plain mappings, and the labels that each kind gives.

Source: Prometheus, discovery/kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name; the namespace of what has none is empty."""

Labels = dict[str, str]

META = "__meta_kubernetes_"
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_ADDRESS_TYPES = (
    "InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname",
)  # fmt: skip


def key_of(found: Object) -> Key:
    meta = found["metadata"]
    return meta.get("namespace", ""), meta["name"]


def label_name(text: str) -> str:
    return _NO_LABEL.sub("_", text)


def annotated(found: Object, kind: str) -> Labels:
    """Labels and annotations of an object. kind: which they are named by, as pod."""
    labels: Labels = {}
    meta = found["metadata"]
    for what, pairs in (("label", meta.get("labels")), ("annotation", meta.get("annotations"))):
        for name, value in (pairs or {}).items():
            labels[f"{META}{kind}_{what}_{label_name(name)}"] = value
            labels[f"{META}{kind}_{what}present_{label_name(name)}"] = "true"
    return labels


def named(found: Object, kind: str) -> Labels:
    """The name of an object with its labels and annotations."""
    return {f"{META}{kind}_name": found["metadata"]["name"]} | annotated(found, kind)


def node_labels(node: Object) -> Labels:
    labels = named(node, "node")
    labels[f"{META}node_provider_id"] = node.get("spec", {}).get("providerID", "")
    for condition in node.get("status", {}).get("conditions") or ():
        name = label_name(condition["type"].lower())
        labels[f"{META}node_condition_{name}"] = condition["status"].lower()
    return labels


def node_addresses(node: Object) -> tuple[str, Labels]:
    """The address that a node is scraped at, "" if it has none, and a label for each kind."""
    first: dict[str, str] = {}
    for address in node.get("status", {}).get("addresses") or ():
        first.setdefault(address["type"], address["address"])
    labels = {f"{META}node_address_{label_name(kind)}": a for kind, a in first.items()}
    return next((first[kind] for kind in _ADDRESS_TYPES if kind in first), ""), labels


def service_labels(service: Object) -> Labels:
    return {f"{META}namespace": service["metadata"]["namespace"]} | named(service, "service")


def controller_of(found: Object) -> Mapping[str, Any]:
    """What an object is made and kept by; empty if by nothing."""
    owners = found["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def pod_labels(pod: Object) -> Labels:
    status, spec = pod.get("status", {}), pod.get("spec", {})
    ready = next(
        (c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "unknown"
    )
    owner = controller_of(pod)
    return named(pod, "pod") | {
        f"{META}pod_ip": status.get("podIP", ""),
        f"{META}pod_ready": ready.lower(),
        f"{META}pod_phase": status.get("phase", ""),
        f"{META}pod_node_name": spec.get("nodeName", ""),
        f"{META}pod_host_ip": status.get("hostIP", ""),
        f"{META}pod_uid": pod["metadata"].get("uid", ""),
        f"{META}pod_controller_kind": owner.get("kind", ""),
        f"{META}pod_controller_name": owner.get("name", ""),
    }


def containers_of(pod: Object) -> Iterator[tuple[Object, bool]]:
    """The containers of a pod, and whether each is one of its start."""
    spec = pod.get("spec", {})
    yield from ((container, False) for container in spec.get("containers") or ())
    yield from ((container, True) for container in spec.get("initContainers") or ())


def container_labels(container: Object, *, is_init: bool) -> Labels:
    return {
        f"{META}pod_container_name": container["name"],
        f"{META}pod_container_image": container.get("image", ""),
        f"{META}pod_container_init": "true" if is_init else "false",
    }


def container_id(pod: Object, container: Object, *, is_init: bool) -> str:
    field = "initContainerStatuses" if is_init else "containerStatuses"
    statuses: Sequence[Object] = pod.get("status", {}).get(field) or ()
    found = (s.get("containerID", "") for s in statuses if s["name"] == container["name"])
    return next(found, "")


def port_labels(port: Object) -> Labels:
    """Of a port that a container says it has."""
    return {
        f"{META}pod_container_port_name": port.get("name", ""),
        f"{META}pod_container_port_number": str(port["containerPort"]),
        f"{META}pod_container_port_protocol": port.get("protocol", "TCP"),
    }
