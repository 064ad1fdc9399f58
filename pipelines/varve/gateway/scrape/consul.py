"""Discovery by Consul: its catalog, and the health of each service, by blocking queries.

Source: Prometheus, discovery/consul; Consul's HTTP API.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from varve.gateway.scrape.discovery import InvalidGroups, Publish
from varve.gateway.scrape.discovery_config import ConsulSdConfig
from varve.gateway.scrape.fetch import NetworksBackend
from varve.gateway.scrape.targets import TargetGroup, host_port
from varve.notify.config.fields import is_set
from varve.notify.config.http_client import BasicAuth, HttpConfig
from varve.notify.receivers.addresses import Networks
from varve.notify.receivers.http_client import HttpClient

_META = "__meta_consul_"
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_MOST_BYTES = 64 * 2**20
_RETRY_S = 15.0
# How long Consul holds a query while nothing changes, and how long we wait for that.
_HELD_S, _TIMEOUT_S = 120, 140.0
_FAILURES = (httpx.HTTPError, OSError, ValueError, TimeoutError)

log = logging.getLogger("varve.scrape.discovery")


class ConsulDiscovery:
    """Asks a Consul of a `consul_sd_configs`. What it said stays while it does not answer."""

    def __init__(
        self, config: ConsulSdConfig, networks: Networks, *, retry_s: float = _RETRY_S
    ) -> None:
        self._config = config
        self._retry_s = retry_s
        self._client = HttpClient(
            _login(config), backend=NetworksBackend(networks), longest_body=_MOST_BYTES
        )
        self._base = f"{config.scheme}://{config.server}"
        if config.path_prefix.strip("/"):
            self._base += "/" + config.path_prefix.strip("/")
        self._datacenter = config.datacenter
        self._groups: dict[str, TargetGroup] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def run(self, publish: Publish) -> None:
        try:
            while not self._datacenter:
                self._datacenter = await self._own_datacenter()
            config = self._config
            if config.services and not config.tags and not config.filter:
                self._watch(dict.fromkeys(config.services, ()), publish)
                await asyncio.gather(*self._watches.values())
            await self._follow_catalog(publish)
        finally:
            for task in self._watches.values():
                task.cancel()
            await asyncio.gather(*self._watches.values(), return_exceptions=True)

    async def close(self) -> None:
        await self._client.close()

    async def _own_datacenter(self) -> str:
        try:
            about, _ = await self._get("/v1/agent/self", [])
            return str(about["Config"]["Datacenter"])
        except (*_FAILURES, KeyError, TypeError) as err:
            await self._failed("/v1/agent/self", err)
            return ""

    async def _follow_catalog(self, publish: Publish) -> None:
        """Watches the services that the catalog has and the configuration means."""
        index = 0
        query = [("filter", self._config.filter)] if self._config.filter else []
        while True:
            try:
                services, now = await self._get("/v1/catalog/services", query, index)
                if not isinstance(services, dict):
                    raise InvalidGroups("the catalog is no mapping of services")
            except _FAILURES as err:
                await self._failed("/v1/catalog/services", err)
                continue
            if now != index:
                # One that went back says that Consul began anew.
                index = max(now, 0) if now >= index else 0
                self._watch({n: tags or () for n, tags in services.items()}, publish)
            await asyncio.sleep(self._config.refresh_interval / 1000)

    def _watch(self, services: Mapping[str, Sequence[str]], publish: Publish) -> None:
        config = self._config
        wanted = {
            name
            for name, tags in services.items()
            if (not config.services or name in config.services)
            and (not config.tags or not tags or set(config.tags) <= set(tags))
        }
        for name in [name for name in self._watches if name not in wanted]:
            self._watches.pop(name).cancel()
            self._groups.pop(name, None)
        for name in wanted - self._watches.keys():
            self._watches[name] = asyncio.create_task(self._follow(name, publish))
        publish(self._published())

    async def _follow(self, name: str, publish: Publish) -> None:
        """Keeps the targets of a service as Consul says that they are."""
        config, index = self._config, 0
        path = f"/v1/health/service/{quote(name, safe='')}"
        query = [("tag", tag) for tag in config.tags]
        query += [("filter", config.health_filter)] if config.health_filter else []
        while True:
            try:
                nodes, now = await self._get(path, query, index)
                if now != index:
                    index = max(now, 0) if now >= index else 0
                    self._groups[name] = self._group(name, nodes)
                    publish(self._published())
            except (*_FAILURES, KeyError, TypeError, AttributeError) as err:
                await self._failed(path, err)
                continue
            await asyncio.sleep(config.refresh_interval / 1000)

    def _published(self) -> list[TargetGroup]:
        return [self._groups[name] for name in sorted(self._groups)]

    def _group(self, name: str, nodes: Sequence[Mapping[str, Any]]) -> TargetGroup:
        common = {f"{_META}service": name, f"{_META}dc": self._datacenter}
        separator = self._config.tag_separator
        return TargetGroup(name, [service_labels(node, separator) for node in nodes], common)

    async def _get(
        self, path: str, query: Sequence[tuple[str, str]], index: int | None = None
    ) -> tuple[Any, int]:
        """An answer and its index. index: that of the answer before it, which it waits to change;
        None to ask at once.
        """
        config = self._config
        params = list(query)
        if index is not None:
            params += [("wait", f"{_HELD_S}s")]
            params += [("index", str(index))] if index else []
            params += [("stale", "")] if config.allow_stale else []
            params += [("node-meta", f"{k}:{v}") for k, v in sorted(config.node_meta.items())]
        named = {"dc": config.datacenter, "ns": config.namespace, "partition": config.partition}
        params += [(name, value) for name, value in named.items() if value]
        headers = {"accept": "application/json"}
        if is_set(config.token):
            headers["x-consul-token"] = config.token.get_secret_value()
        url = str(httpx.URL(self._base + path, params=params) if params else self._base + path)
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await self._client.get(url, headers)
        if answer.status_code != 200:
            raise InvalidGroups(f"status {answer.status_code}")
        return answer.json(), int(answer.headers.get("x-consul-index", 0))

    async def _failed(self, path: str, why: Exception) -> None:
        log.warning("consul_sd_configs: %s%s: %s", self._base, path, str(why) or type(why))
        await asyncio.sleep(self._retry_s)


def service_labels(entry: Mapping[str, Any], separator: str) -> dict[str, str]:
    """The labels of an instance, as /v1/health/service tells of it."""
    node, service = entry["Node"], entry["Service"]
    labels = {
        "__address__": host_port(service.get("Address") or node["Address"], service["Port"]),
        f"{_META}address": node["Address"],
        f"{_META}node": node["Node"],
        f"{_META}namespace": service.get("Namespace", ""),
        f"{_META}partition": service.get("Partition", ""),
        f"{_META}tags": separator + separator.join(service.get("Tags") or ()) + separator,
        f"{_META}service_address": service.get("Address", ""),
        f"{_META}service_port": str(service["Port"]),
        f"{_META}service_id": service.get("ID", ""),
        f"{_META}health": _health(entry.get("Checks") or ()),
    }
    parts = (
        ("metadata_", node.get("Meta")),
        ("service_metadata_", service.get("Meta")),
        ("tagged_address_", node.get("TaggedAddresses")),
    )
    for prefix, pairs in parts:
        for name, value in (pairs or {}).items():
            labels[f"{_META}{prefix}{_NO_LABEL.sub('_', name)}"] = str(value)
    return labels


def _health(checks: Sequence[Mapping[str, Any]]) -> str:
    """The worst of its checks; maintenance before all."""
    if any(
        check.get("CheckID") == "_node_maintenance"
        or str(check.get("CheckID", "")).startswith("_service_maintenance:")
        for check in checks
    ):
        return "maintenance"
    found = {check.get("Status") for check in checks}
    return next((status for status in ("critical", "warning") if status in found), "passing")


def _login(config: ConsulSdConfig) -> HttpConfig:
    if not config.username and not is_set(config.password):
        return config
    basic = BasicAuth(username=config.username, password=config.password)
    return config.model_copy(update={"basic_auth": basic})
