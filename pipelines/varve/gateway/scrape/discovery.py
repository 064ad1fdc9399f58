"""Discovery: sources that say, again and again, which targets there are.

Source: Prometheus, discovery/file, http, dns.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import httpx
import yaml

from varve.gateway.scrape.discovery_config import DnsSdConfig, FileSdConfig, HttpSdConfig
from varve.gateway.scrape.fetch import NetworksBackend
from varve.gateway.scrape.targets import TargetGroup, host_port
from varve.notify.receivers.addresses import Networks
from varve.notify.receivers.http_client import HttpClient

Publish = Callable[[Sequence[TargetGroup]], None]
"""Is told all groups of a discovery, whenever they may have changed."""

# How often files are looked at: a changed one is read at once.
_LOOK_S = 1.0
_MOST_BYTES = 64 * 2**20
_DNS_S = 10.0

log = logging.getLogger("varve.scrape.discovery")


class Discovery(Protocol):
    async def run(self, publish: Publish) -> None:
        """Publishes until it is cancelled. What cannot be read leaves what was published."""

    async def close(self) -> None: ...


class InvalidGroups(ValueError):
    """What a source says is no list of target groups; the text says why."""


def groups_of(content: object, source: str, meta: Mapping[str, str]) -> list[TargetGroup]:
    """Groups as files and HTTP endpoints write them. meta: labels that each gets. Raises
    InvalidGroups.
    """
    if content is None:
        return []
    if not isinstance(content, list):
        raise InvalidGroups("it is no list")
    found = []
    for number, group in enumerate(content):
        if not isinstance(group, Mapping):
            raise InvalidGroups(f"group {number + 1} is no mapping")
        if unknown := set(group) - {"targets", "labels"}:
            raise InvalidGroups(
                f"group {number + 1} has the unknown field {min(map(str, unknown))}"
            )
        targets, labels = group.get("targets") or [], group.get("labels") or {}
        if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
            raise InvalidGroups(f"the targets of group {number + 1} are no list of texts")
        if not isinstance(labels, Mapping):
            raise InvalidGroups(f"the labels of group {number + 1} are no mapping")
        own = {str(name): _label_text(value) for name, value in labels.items()} | dict(meta)
        addresses = [{"__address__": target} for target in targets]
        found.append(TargetGroup(f"{source}:{number}", addresses, own))
    return found


def _label_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | Mapping) or value is None:
        raise InvalidGroups(f"a label has the value {str(value)[:60]}, which is no text")
    return str(value)


class FileDiscovery:
    """Reads the files of `file_sd_configs`, again when one has changed."""

    def __init__(self, config: FileSdConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._read: dict[Path, list[TargetGroup]] = {}
        self._seen: dict[Path, tuple[int, int, int]] = {}

    async def run(self, publish: Publish) -> None:
        publish(self.look())
        while True:
            await asyncio.sleep(_LOOK_S)
            before = dict(self._seen)
            groups = self.look()
            if self._seen != before:
                publish(groups)

    def look(self) -> list[TargetGroup]:
        """The groups of all files as they are now; of one that is broken, as they were. One that is
        gone has none.
        """
        paths = sorted({path for pattern in self._config.files for path in self._paths(pattern)})
        for gone in set(self._read) - set(paths):
            del self._read[gone]
            self._seen.pop(gone, None)
        for path in paths:
            try:
                status = path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if self._seen.get(path) == seen:
                    continue
                self._seen[path] = seen
                self._read[path] = _file_groups(path)
            except (OSError, ValueError, yaml.YAMLError) as err:
                log.warning("file_sd_configs: %s: %s", path, err)
        return [group for path in sorted(self._read) for group in self._read[path]]

    def _paths(self, pattern: str) -> list[Path]:
        whole = self._folder / pattern
        if "*" in whole.name:
            return list(whole.parent.glob(whole.name))
        return [whole] if whole.exists() else []

    async def close(self) -> None: ...


def _file_groups(path: Path) -> list[TargetGroup]:
    text = path.read_text()
    content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    return groups_of(content, str(path), {"__meta_filepath": str(path)})


class HttpDiscovery:
    """Asks the endpoint of an `http_sd_configs`."""

    def __init__(self, config: HttpSdConfig, networks: Networks) -> None:
        self._config = config
        self._client = HttpClient(
            config, backend=NetworksBackend(networks), longest_body=_MOST_BYTES
        )

    async def run(self, publish: Publish) -> None:
        while True:
            try:
                publish(await self._groups())
            except (httpx.HTTPError, OSError, ValueError, TimeoutError) as err:
                log.warning("http_sd_configs: %s: %s", self._shown(), str(err) or type(err))
            await asyncio.sleep(self._config.refresh_interval / 1000)

    async def _groups(self) -> list[TargetGroup]:
        url, interval_ms = self._config.url, self._config.refresh_interval
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "x-prometheus-refresh-interval-seconds": f"{interval_ms / 1000:g}",
        }
        async with asyncio.timeout(max(interval_ms / 1000, 1.0)):
            answer = await self._client.get(url, headers)
        if answer.status_code != 200:
            raise InvalidGroups(f"status {answer.status_code}")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise InvalidGroups(f"content-type is application/json, not {kind[:60]!r}")
        return groups_of(json.loads(answer.content), url, {"__meta_url": url})

    def _shown(self) -> str:
        return self._config.url.partition("?")[0]

    async def close(self) -> None:
        await self._client.close()


class DnsDiscovery:
    """Resolves the names of a `dns_sd_configs`."""

    def __init__(self, config: DnsSdConfig, resolver: Any = None) -> None:
        self._config = config
        self._resolver = resolver
        self._found: dict[str, TargetGroup] = {}

    async def run(self, publish: Publish) -> None:
        while True:
            await asyncio.gather(*map(self._resolve, self._config.names))
            publish([self._found[name] for name in self._config.names if name in self._found])
            await asyncio.sleep(self._config.refresh_interval / 1000)

    async def _resolve(self, name: str) -> None:
        """Notes the targets of a name. One that does not exist has none; while no server answers,
        what was known stays.
        """
        if self._resolver is None:
            self._resolver = dns.asyncresolver.Resolver()
        kind = self._config.type
        try:
            answer = await self._resolver.resolve(
                name, kind, raise_on_no_answer=False, lifetime=_DNS_S
            )
            records = list(answer.rrset or ())
        except dns.resolver.NXDOMAIN:
            records = []
        except dns.exception.DNSException as err:
            log.warning("dns_sd_configs: %s: %s", name, err)
            return
        targets = [_dns_labels(kind, record, self._config.port) for record in records]
        self._found[name] = TargetGroup(name, targets, {"__meta_dns_name": name})

    async def close(self) -> None: ...


def _dns_labels(kind: str, record: Any, port: int) -> dict[str, str]:
    if kind in ("A", "AAAA"):
        return {"__address__": host_port(str(record.address), port)}
    target = str(record.exchange if kind == "MX" else record.target)
    host = target.rstrip(".")
    if kind == "SRV":
        return {
            "__address__": f"{host}:{port or record.port}",
            "__meta_dns_srv_record_target": target,
            "__meta_dns_srv_record_port": str(record.port),
        }
    return {"__address__": f"{host}:{port}", f"__meta_dns_{kind.lower()}_record_target": target}
