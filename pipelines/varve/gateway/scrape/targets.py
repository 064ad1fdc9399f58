"""Targets: the labels that discovery gives, and what relabelling makes of them.

Source: Prometheus, scrape/target.go, PopulateLabels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.relabel import relabel
from varve.promql.syntax.literals import format_duration, parse_duration

_META, _PARAM = "__meta_", "__param_"


class InvalidTarget(ValueError):
    """A target cannot be scraped; the text says why."""


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets that one source gives together. source: tells groups of a discovery apart."""

    source: str
    targets: Sequence[Mapping[str, str]]
    """Labels of each, `__address__` among them."""
    labels: Mapping[str, str]
    """Which all of them have that have none of the name."""


@dataclass(frozen=True)
class Target:
    """A target as it is scraped. url: with its query. labels: those that its samples get."""

    url: str
    labels: Mapping[str, str]
    discovered: Mapping[str, str]
    interval_ms: int
    timeout_ms: int

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Two targets with the same key are one."""
        return self.url, tuple(sorted(self.labels.items()))

    def offset_ms(self, seed: str) -> int:
        """Where in its interval it is scraped: spread evenly, always the same for a target."""
        return self._hash(seed) % self.interval_ms

    @property
    def number(self) -> int:
        """The same in every process: which of several instances scrapes it follows from it."""
        return self._hash("")

    def _hash(self, seed: str) -> int:
        text = repr((seed, self.key)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


@dataclass
class Targets:
    """What a job's groups say."""

    active: dict[tuple[str, tuple[tuple[str, str], ...]], Target]
    dropped: list[Mapping[str, str]]
    """Labels of those that relabelling drops, as discovered."""
    failures: list[str]
    """Why others cannot be targets."""


def targets_of(job: ScrapeConfig, groups: Iterable[TargetGroup]) -> Targets:
    """The targets of a job; those that are the same count once."""
    found = Targets({}, [], [])
    for group in groups:
        for own in group.targets:
            discovered = _discovered(job, own, group.labels)
            try:
                target = _target(job, discovered)
            except InvalidTarget as bad:
                found.failures.append(str(bad))
                continue
            if target is None:
                found.dropped.append(discovered)
            else:
                found.active.setdefault(target.key, target)
    return found


def host_port(host: str, port: int) -> str:
    """A host and a port as an address; IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def static_groups(job: ScrapeConfig) -> Iterator[TargetGroup]:
    """The groups of `static_configs`."""
    for number, config in enumerate(job.static_configs):
        targets = [{"__address__": address} for address in config.targets]
        yield TargetGroup(f"static/{number}", targets, config.labels)


def _discovered(
    job: ScrapeConfig, own: Mapping[str, str], common: Mapping[str, str]
) -> dict[str, str]:
    """The labels before relabelling, sorted."""
    of_job = {
        "job": job.job_name,
        "__scrape_interval__": format_duration(job.scrape_interval / 1000),
        "__scrape_timeout__": format_duration(job.scrape_timeout / 1000),
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
    }
    of_job |= {f"{_PARAM}{name}": values[0] for name, values in job.params.items() if values}
    found = {name: value for name, value in of_job.items() if value}
    found |= {name: value for name, value in common.items() if value}
    found |= {name: value for name, value in own.items() if value}
    return dict(sorted(found.items()))


def _target(job: ScrapeConfig, discovered: Mapping[str, str]) -> Target | None:
    """None if relabelling drops it. Raises InvalidTarget."""
    labels = relabel(job.relabel_configs, discovered)
    if labels is None:
        return None
    address = labels.get("__address__", "")
    if not address:
        raise InvalidTarget(f"job {job.job_name}: a target has no address")
    if "/" in address:
        raise InvalidTarget(f"job {job.job_name}: {address!r} is no host and port")
    interval_ms = _duration_ms(labels, "__scrape_interval__")
    timeout_ms = _duration_ms(labels, "__scrape_timeout__")
    if timeout_ms > interval_ms:
        raise InvalidTarget(f"{address}: its scrape timeout is greater than its interval")
    labels.setdefault("instance", address)
    own = {name: value for name, value in labels.items() if not name.startswith("__")}
    return Target(_url(job, labels, address), own, discovered, interval_ms, timeout_ms)


def _duration_ms(labels: Mapping[str, str], name: str) -> int:
    try:
        found = round(parse_duration(labels.get(name, "")) * 1000)
    except ValueError as err:
        raise InvalidTarget(f"{labels['__address__']}: {name} is no duration: {err}") from None
    if not found:
        raise InvalidTarget(f"{labels['__address__']}: {name} is zero")
    return found


def _url(job: ScrapeConfig, labels: Mapping[str, str], address: str) -> str:
    params = {name: list(values) for name, values in job.params.items()}
    for name, value in labels.items():
        if name.startswith(_PARAM):
            key = name.removeprefix(_PARAM)
            params[key] = [value, *params.get(key, [])[1:]]
    scheme, path = labels.get("__scheme__", ""), labels.get("__metrics_path__", "")
    query = urlencode(sorted(params.items()), doseq=True)
    if path and not path.startswith("/"):
        path = f"/{path}"
    place, _, own_query = path.partition("?")
    shown = quote(place, safe="/:@!$&'()*+,;=~-._%") + (f"?{own_query}" if own_query else "")
    mark = "&" if own_query else "?"
    host = quote(address, safe="[]:@!$&'()*+,;=~-._%")
    return f"{scheme}://{host}{shown}" + (f"{mark}{query}" if query else "")
