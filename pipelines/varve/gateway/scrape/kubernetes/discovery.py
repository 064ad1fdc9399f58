"""The discovery of a `kubernetes_sd_configs`: mirrors of what its role looks at, and their targets.

Source: Prometheus, discovery/kubernetes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from varve.gateway.scrape.discovery import Publish
from varve.gateway.scrape.discovery_config import KubernetesSdConfig
from varve.gateway.scrape.fetch import NetworksBackend
from varve.gateway.scrape.kubernetes.login import cluster_of, own_namespace
from varve.gateway.scrape.kubernetes.mirror import Mirror
from varve.gateway.scrape.kubernetes.objects import Key, Object
from varve.gateway.scrape.kubernetes.roles import Known, groups_of, kinds_of
from varve.notify.receivers.addresses import Networks
from varve.notify.receivers.http_client import HttpClient

_MOST_BYTES = 256 * 2**20
# Changes within it are looked at together.
_SETTLE_S = 1.0
_CLUSTER_WIDE = ("nodes", "namespaces")
_APIS: Mapping[str, str] = {
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
}


class KubernetesDiscovery:
    """Publishes the targets of a role once everything it looks at is known, then at each change."""

    def __init__(
        self,
        config: KubernetesSdConfig,
        networks: Networks,
        folder: Path,
        *,
        settle_s: float = _SETTLE_S,
        first_pause_s: float | None = None,
    ) -> None:
        """Raises ValueError, OSError if there is no cluster or login."""
        self._config = config
        self._settle_s = settle_s
        self._base, client = cluster_of(config, folder)
        self._client = HttpClient(
            client, backend=NetworksBackend(networks), longest_body=_MOST_BYTES
        )
        self._changed = asyncio.Event()
        namespaces = list(config.namespaces.names)
        if config.namespaces.own_namespace:
            namespaces.append(own_namespace())
        pauses = {} if first_pause_s is None else {"first_pause_s": first_pause_s}
        self._mirrors = [
            (kind, Mirror(self._client, url, self._selectors(role), self._changed.set, **pauses))
            for kind, role in kinds_of(config.role, config.attach_metadata).items()
            for url in self._urls(kind, namespaces)
        ]

    async def run(self, publish: Publish) -> None:
        tasks = [asyncio.create_task(mirror.run()) for _, mirror in self._mirrors]
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if all(mirror.is_known for _, mirror in self._mirrors):
                    publish(groups_of(self._config.role, self._known()))
                    await asyncio.sleep(self._settle_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self._client.close()

    def _known(self) -> Known:
        objects: dict[str, dict[Key, Object]] = {}
        for kind, mirror in self._mirrors:
            objects[kind] = objects.get(kind, {}) | mirror.objects
        return Known(self._config.attach_metadata, objects)

    def _urls(self, kind: str, namespaces: list[str]) -> list[str]:
        base = self._base + _APIS.get(kind, "/api/v1")
        if not namespaces or kind in _CLUSTER_WIDE:
            return [f"{base}/{kind}"]
        return [f"{base}/namespaces/{namespace}/{kind}" for namespace in namespaces]

    def _selectors(self, role: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for selector in self._config.selectors:
            if role and selector.role == role:
                found += [("labelSelector", selector.label)] if selector.label else []
                found += [("fieldSelector", selector.field)] if selector.field else []
        return found
