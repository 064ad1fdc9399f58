"""Discovery follows a Kubernetes API through changes, broken watches, expired versions, outages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from tests.unit.gateway.scrape.cluster import fill, pod
from tests.unit.gateway.scrape.kubernetes_server import KubernetesServer
from varve.gateway.scrape.discovery_config import KubernetesSdConfig
from varve.gateway.scrape.kubernetes.discovery import KubernetesDiscovery
from varve.gateway.scrape.kubernetes.login import cluster_of

WAIT_S = 60


class Following:
    """A discovery that runs, and what it published last."""

    def __init__(self, server: KubernetesServer, networks=(), **config):
        parsed = KubernetesSdConfig.model_validate({"api_server": server.url} | config)
        self.discovery = KubernetesDiscovery(
            parsed, networks, Path(), settle_s=0.01, first_pause_s=0.05
        )
        self.groups = None
        self._published = asyncio.Event()

    async def __aenter__(self):
        self._task = asyncio.create_task(self.discovery.run(self._publish))
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.discovery.close()

    def _publish(self, groups):
        self.groups = groups
        self._published.set()

    async def until(self, condition):
        """Waits until what is published is so."""
        async with asyncio.timeout(WAIT_S):
            while self.groups is None or not condition(self.addresses()):
                self._published.clear()
                await self._published.wait()

    def addresses(self):
        return sorted(t["__address__"] for group in self.groups or () for t in group.targets)


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.01)


def run(test):
    with KubernetesServer() as server:
        fill(server)
        asyncio.run(test(server))


def test_changes_are_followed_and_broken_watches_go_on_where_they_were():
    async def test(server):
        async with Following(server, role="pod") as following:
            await following.until(lambda found: "10.1.0.1:8080" in found)
            lists = len(server.lists)
            server.put("pods", pod("web-c", "10.1.0.3"))
            await following.until(lambda found: "10.1.0.3:8080" in found)
            server.drop_watches()
            server.put("pods", pod("web-c", "10.1.0.4"))
            server.delete("pods", "shop", "web-a")
            await following.until(
                lambda found: "10.1.0.4:8080" in found and "10.1.0.1:8080" not in found
            )
            assert "10.1.0.3:8080" not in following.addresses()
            assert len(server.lists) == lists

    run(test)


def test_a_version_that_expired_makes_it_list_again_and_lose_nothing():
    async def test(server):
        async with Following(server, role="pod") as following:
            await following.until(lambda found: "10.1.0.1:8080" in found)
            lists = len(server.lists)
            server.is_away = True
            server.drop_watches()
            server.delete("pods", "shop", "web-a")
            server.put("pods", pod("web-c", "10.1.0.3"))
            server.forget()
            watches = len(server.watches)
            assert "10.1.0.1:8080" in following.addresses()  # while it is away, what was known
            server.is_away = False
            await following.until(
                lambda found: "10.1.0.3:8080" in found and "10.1.0.1:8080" not in found
            )
            assert len(server.lists) > lists
            await until(lambda: len(server.watches) > watches)

    run(test)


def test_nothing_is_published_before_everything_a_role_looks_at_is_known():
    async def test(server):
        server.is_away = True
        attach = {"node": True, "namespace": True, "deployment": True, "cronjob": True}
        async with Following(server, role="endpoints", attach_metadata=attach) as following:
            await asyncio.sleep(0)
            assert following.groups is None
            server.is_away = False
            await following.until(bool)
            labels = {k: v for g in following.groups for t in g.targets for k, v in t.items()}
            assert labels["__meta_kubernetes_pod_deployment_name"] == "web"
            assert labels["__meta_kubernetes_pod_cronjob_name"] == "nightly"
            assert labels["__meta_kubernetes_node_provider_id"].startswith("cloud://")

    run(test)


def test_namespaces_selectors_and_logins_go_into_the_requests():
    async def test(server):
        config = {
            "role": "pod",
            "namespaces": {"names": ["shop", "other"]},
            "selectors": [{"role": "pod", "label": "a=b", "field": "spec.nodeName=n"}],
            "authorization": {"credentials": "secret"},
        }
        async with Following(server, **config) as following:
            await following.until(bool)
        assert {path.partition("?")[0] for path in server.lists} == {
            "/api/v1/namespaces/shop/pods",
            "/api/v1/namespaces/other/pods",
        }
        assert all("labelSelector=a%3Db" in path for path in server.lists + server.watches)
        assert all("fieldSelector=spec.nodeName%3Dn" in path for path in server.lists)
        assert server.authorizations == {"Bearer secret"}

    run(test)


def test_an_api_server_outside_of_the_networks_is_not_connected_to():
    import ipaddress

    async def test(server):
        networks = [ipaddress.ip_network("10.0.0.0/8")]
        async with Following(server, networks, role="pod"):
            await asyncio.sleep(0.3)
        assert not server.lists

    run(test)


def test_a_kubeconfig_says_where_the_cluster_is_and_how_to_log_in(tmp_path):
    tree = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [
            {
                "name": "k",
                "cluster": {"server": "https://k:6443/", "certificate-authority": "ca.crt"},
            }
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(tree))
    config = KubernetesSdConfig.model_validate({"role": "pod", "kubeconfig_file": "config"})

    base, client = cluster_of(config, tmp_path)

    assert base == "https://k:6443"
    assert client.tls_config.ca_file == str(tmp_path / "ca.crt")
    assert client.authorization.credentials.get_secret_value() == "t"
    tree["users"][0]["user"] = {"exec": {"command": "x"}}
    (tmp_path / "config").write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match="not run"):
        cluster_of(config, tmp_path)


def test_in_a_pod_the_service_account_logs_in(tmp_path):
    config = KubernetesSdConfig.model_validate({"role": "pod"})
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}

    base, client = cluster_of(config, tmp_path, environment=environment, account=tmp_path)

    assert base == "https://[fd00::1]:6443"
    assert client.authorization.credentials_file == str(tmp_path / "token")
    with pytest.raises(ValueError, match="api_server or kubeconfig_file"):
        cluster_of(config, tmp_path, environment={})
