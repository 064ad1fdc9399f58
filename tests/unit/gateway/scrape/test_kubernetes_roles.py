"""What objects of a cluster stand for, by each role, as Prometheus' documentation has it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.gateway.scrape.cluster import fill
from tests.unit.gateway.scrape.kubernetes_server import KINDS
from varve.gateway.scrape.discovery_config import AttachMetadata
from varve.gateway.scrape.kubernetes.objects import key_of
from varve.gateway.scrape.kubernetes.roles import Known, groups_of, kinds_of

META = "__meta_kubernetes_"


class Objects:
    """Takes what a server would be given."""

    def __init__(self, **attach):
        self.known = Known(AttachMetadata(**attach))

    def put(self, kind, content):
        assert kind in KINDS
        self.known.objects.setdefault(kind, {})[key_of(content)] = content


def targets(role, change=lambda known: None, **attach):
    """Labels of each target, those of its group among them, less the common prefix and what is
    empty.
    """
    objects = Objects(**attach)
    fill(objects)
    change(objects.known)
    found = [g.labels | t for g in groups_of(role, objects.known) for t in g.targets]
    return [{k.removeprefix(META): v for k, v in one.items() if v} for one in found]


def at(found, address):
    [one] = [labels for labels in found if labels["__address__"] == address]
    return one


def addresses(found):
    return Counter(labels["__address__"] for labels in found)


def test_a_node_is_scraped_at_its_kubelet_by_the_best_of_its_addresses():
    found = targets("node")

    assert addresses(found) == {"10.0.0.1:10250": 1, "1.2.3.2:10250": 1}
    assert at(found, "10.0.0.1:10250") == {
        "__address__": "10.0.0.1:10250",
        "instance": "node-1",
        "node_name": "node-1",
        "node_provider_id": "cloud://1",
        "node_address_InternalIP": "10.0.0.1",
        "node_address_ExternalIP": "1.2.3.1",
        "node_label_zone_x": "z",
        "node_labelpresent_zone_x": "true",
        "node_annotation_n": "1",
        "node_annotationpresent_n": "true",
        "node_condition_ready": "true",
        "node_condition_diskpressure": "unknown",
    }


def test_a_service_is_scraped_at_each_port_by_its_name():
    found = targets("service", namespace=True)

    names = ("web", "outside", "front")
    assert addresses(found) == Counter(
        f"{name}.shop.svc:{port}" for name in names for port in (8080, 9000)
    )
    assert at(found, "web.shop.svc:9000") == {
        "__address__": "web.shop.svc:9000",
        "namespace": "shop",
        "namespace_label_team": "a",
        "namespace_labelpresent_team": "true",
        "namespace_annotation_owner": "b",
        "namespace_annotationpresent_owner": "true",
        "service_name": "web",
        "service_type": "ClusterIP",
        "service_cluster_ip": "10.2.0.1",
        "service_port_name": "admin",
        "service_port_number": "9000",
        "service_port_protocol": "UDP",
        "service_label_service_label": "web",
        "service_labelpresent_service_label": "true",
    }
    outside, front = (at(found, f"{name}.shop.svc:8080") for name in names[1:])
    assert outside["service_external_name"] == "example.com"
    assert "service_cluster_ip" not in outside
    assert front["service_loadbalancer_ip"] == "1.1.1.1"


OF_PODS = {"10.1.0.1:9125": 1, "10.1.0.1:7000": 1, "[fd01::2]:9125": 1, "[fd01::2]:7000": 1}


def test_endpoints_are_their_addresses_and_the_other_ports_of_the_pods_behind_them():
    found = targets("endpoints", node=True)

    assert addresses(found) == OF_PODS | {
        "10.1.0.1:8080": 1, "[fd01::2]:8080": 1, "10.9.9.9:8080": 1, "10.0.0.2:1": 1
    }  # fmt: skip
    ready, waiting = at(found, "10.1.0.1:8080"), at(found, "[fd01::2]:8080")
    assert {name: ready[name] for name in ready if name.startswith("endpoint")} == {
        "endpoint_port_name": "http", "endpoint_port_protocol": "TCP", "endpoint_ready": "true",
        "endpoint_address_target_kind": "Pod", "endpoint_address_target_name": "web-a",
        "endpoint_node_name": "node-1", "endpoint_hostname": "h", "endpoints_name": "web",
        "endpoints_label_e": "1", "endpoints_labelpresent_e": "true",
    }  # fmt: skip
    assert ready["node_name"] == "node-1"
    assert ready["service_name"] == "web"
    assert (ready["pod_name"], ready["pod_container_name"]) == ("web-a", "app")
    assert ready["pod_container_port_name"] == "http"
    assert waiting["endpoint_ready"] == waiting["pod_ready"] == "false"
    assert waiting["pod_controller_kind"] == "Job"
    assert "pod_name" not in at(found, "10.9.9.9:8080")
    of_node = at(found, "10.0.0.2:1")
    assert of_node["endpoint_address_target_kind"] == "Node"
    assert of_node["node_name"] == "node-2"
    other = at(found, "10.1.0.1:7000")
    assert other["pod_container_init"] == "true"
    assert "endpoint_ready" not in other


def test_an_endpoint_slice_says_more_of_each_address():
    found = targets("endpointslice")

    assert addresses(found) == {
        "10.1.0.1:8080": 1, "10.1.0.11:8080": 1, "10.7.7.7:8080": 1,
        "10.1.0.1:9125": 1, "10.1.0.1:7000": 1,
    }  # fmt: skip
    one = at(found, "10.1.0.1:8080")
    assert {name: one[name] for name in one if name.startswith("endpointslice_")} == {
        "endpointslice_name": "web-x1",
        "endpointslice_address_type": "IPv4",
        "endpointslice_label_kubernetes_io_service_name": "web",
        "endpointslice_labelpresent_kubernetes_io_service_name": "true",
        "endpointslice_port": "8080",
        "endpointslice_port_name": "http",
        "endpointslice_port_protocol": "TCP",
        "endpointslice_port_app_protocol": "http",
        "endpointslice_address_target_kind": "Pod",
        "endpointslice_address_target_name": "web-a",
        "endpointslice_endpoint_hostname": "h",
        "endpointslice_endpoint_node_name": "node-1",
        "endpointslice_endpoint_zone": "z1",
        "endpointslice_endpoint_conditions_ready": "true",
        "endpointslice_endpoint_conditions_serving": "true",
        "endpointslice_endpoint_conditions_terminating": "false",
        "endpointslice_endpoint_topology_topology_zone": "old",
        "endpointslice_endpoint_topology_present_topology_zone": "true",
    }
    assert one["service_name"] == "web"
    assert one["pod_name"] == at(found, "10.1.0.11:8080")["pod_name"] == "web-a"
    waiting = at(found, "10.7.7.7:8080")
    assert waiting["endpointslice_endpoint_conditions_ready"] == "false"


@pytest.mark.parametrize(
    ("policy", "family", "count"),
    [("PreferDualStack", "IPv6", 0), ("PreferDualStack", "IPv4", 5), ("SingleStack", "IPv6", 5)],
)
def test_of_a_service_with_two_families_one_counts(policy, family, count):
    def change(known):
        spec = known.find("services", "shop", "web")["spec"]
        spec |= {"ipFamilyPolicy": policy, "ipFamilies": [family]}

    assert len(targets("endpointslice", change)) == count


def test_an_ingress_is_scraped_at_each_of_its_paths():
    found = targets("ingress")

    assert [
        (one["ingress_scheme"], one["__address__"], one["ingress_path"]) for one in found
    ] == [
        ("https", "a.example.com", "/x"),
        ("https", "a.example.com", "/"),
        ("http", "b.a.example.com", "/y"),
        ("http", "plain.org", "/"),
    ]  # fmt: skip
    assert found[-1] == {
        "__address__": "plain.org",
        "namespace": "shop",
        "ingress_name": "entry",
        "ingress_class_name": "nginx",
        "ingress_label_i": "1",
        "ingress_labelpresent_i": "true",
        "ingress_host": "plain.org",
        "ingress_scheme": "http",
        "ingress_path": "/",
    }


def test_a_pod_on_a_node_that_was_not_selected_is_no_target():
    def change(known):
        del known.objects["nodes"]["", "node-1"]

    assert targets("pod", node=True)
    assert not targets("pod", change, node=True)


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        ("node", {"nodes"}),
        ("service", {"services", "namespaces"}),
        ("ingress", {"ingresses", "namespaces"}),
        ("endpoints", {"endpoints", "services", "pods", "nodes", "namespaces", "jobs"}),
    ],
)
def test_a_role_looks_at_what_it_needs(role, kinds):
    attach = AttachMetadata(node=True, namespace=True, cronjob=True)

    assert set(kinds_of(role, attach)) == kinds
