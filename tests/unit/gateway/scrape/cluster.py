"""A small cluster, as its API server says it: every kind of object that discovery looks at."""

from __future__ import annotations

from typing import Any

from tests.unit.gateway.scrape.kubernetes_server import KubernetesServer


def meta(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    found = {"name": name, "namespace": namespace, "uid": f"uid-{name}"} | more
    return {k: v for k, v in found.items() if v}


def owned(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": True}]


def pod(name: str, ip: str, *, ready: str = "True", **more: Any) -> dict[str, Any]:
    return {
        "metadata": meta(
            name,
            labels={"app.kubernetes.io/name": "web"},
            annotations={"scrape/port": "80"},
            ownerReferences=owned(*more.get("owner", ("ReplicaSet", "web-1"))),
        ),
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {
                    "name": "app",
                    "image": "app:1",
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "udp", "containerPort": 9125, "protocol": "UDP"},
                    ],
                },
                {"name": "sidecar", "image": "proxy:2"},
            ],
            "initContainers": [
                {
                    "name": "init",
                    "image": "init:1",
                    "ports": [{"containerPort": 7000, "protocol": "TCP"}],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [
                {
                    "name": "app",
                    "containerID": "containerd://a",
                    "image": "",
                    "imageID": "",
                    "ready": True,
                    "restartCount": 0,
                }
            ],
        },
    }


def fill(server: KubernetesServer) -> None:
    server.put(
        "namespaces",
        {"metadata": {"name": "shop", "labels": {"team": "a"}, "annotations": {"owner": "b"}}},
    )
    for number, address in ((1, "InternalIP"), (2, "Hostname")):
        server.put(
            "nodes",
            {
                "metadata": {
                    "name": f"node-{number}",
                    "labels": {"zone/x": "z"},
                    "annotations": {"n": "1"},
                },
                "spec": {"providerID": f"cloud://{number}"},
                "status": {
                    "addresses": [
                        {"type": address, "address": f"10.0.0.{number}"},
                        {"type": "ExternalIP", "address": f"1.2.3.{number}"},
                    ],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                    "conditions": [
                        {"type": "Ready", "status": "True"},
                        {"type": "DiskPressure", "status": "Unknown"},
                    ],
                },
            },
        )
    server.put("pods", pod("web-a", "10.1.0.1"))
    server.put("pods", pod("web-b", "fd01::2", ready="False", owner=("Job", "nightly-1")))
    server.put("pods", pod("starting", ""))
    server.put(
        "replicasets", {"metadata": meta("web-1", ownerReferences=owned("Deployment", "web"))}
    )
    server.put("jobs", {"metadata": meta("nightly-1", ownerReferences=owned("CronJob", "nightly"))})
    port = {"name": "http", "port": 8080, "protocol": "TCP"}
    service_ports = [port, {"name": "admin", "port": 9000, "protocol": "UDP"}]
    for name, spec in (
        ("web", {"type": "ClusterIP", "clusterIP": "10.2.0.1"}),
        ("outside", {"type": "ExternalName", "externalName": "example.com"}),
        ("front", {"type": "LoadBalancer", "clusterIP": "10.2.0.3", "loadBalancerIP": "1.1.1.1"}),
    ):
        labels = {"service-label": name}
        server.put(
            "services",
            {"metadata": meta(name, labels=labels), "spec": spec | {"ports": service_ports}},
        )
    reference = {"kind": "Pod", "namespace": "shop", "name": "web-a"}
    server.put(
        "endpoints",
        {
            "metadata": meta("web", labels={"e": "1"}),
            "subsets": [
                {
                    "addresses": [
                        {
                            "ip": "10.1.0.1",
                            "nodeName": "node-1",
                            "hostname": "h",
                            "targetRef": reference,
                        }
                    ],
                    "notReadyAddresses": [
                        {"ip": "fd01::2", "targetRef": reference | {"name": "web-b"}},
                        {"ip": "10.9.9.9"},
                    ],
                    "ports": [port],
                },
                {
                    "addresses": [
                        {"ip": "10.0.0.2", "targetRef": {"kind": "Node", "name": "node-2"}}
                    ],
                    "ports": [{"port": 1}],
                },
            ],
        },
    )
    server.put(
        "endpointslices",
        {
            "metadata": meta("web-x1", labels={"kubernetes.io/service-name": "web"}),
            "addressType": "IPv4",
            "ports": [port | {"appProtocol": "http"}],
            "endpoints": [
                {
                    "addresses": ["10.1.0.1", "10.1.0.11"],
                    "hostname": "h",
                    "nodeName": "node-1",
                    "zone": "z1",
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "targetRef": reference,
                    "deprecatedTopology": {"topology/zone": "old"},
                },
                {"addresses": ["10.7.7.7"], "conditions": {"ready": False}},
            ],
        },
    )
    server.put(
        "ingresses",
        {
            "metadata": meta("entry", labels={"i": "1"}),
            "spec": {
                "ingressClassName": "nginx",
                "tls": [{"hosts": ["*.example.com"]}],
                "rules": [
                    {"host": "a.example.com", "http": {"paths": [{"path": "/x"}, {"path": ""}]}},
                    {"host": "b.a.example.com", "http": {"paths": [{"path": "/y"}]}},
                    {"host": "plain.org"},
                ],
            },
        },
    )
