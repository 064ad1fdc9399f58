"""One page of metrics for several processes that do the same: each series says whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Sample

LABEL = "process"
"""Of each series, the number of its process. Not summed: a process that starts again would look as
if all of them had."""


def to_json(registry: CollectorRegistry) -> bytes:
    """What a process has to say, for `page_of`."""
    families = [
        {
            "name": family.name,
            "help": family.documentation,
            "type": family.type,
            "unit": family.unit,
            "samples": [[s.name, s.labels, s.value] for s in family.samples],
        }
        for family in registry.collect()
    ]
    return json.dumps(families).encode()


def page_of(said: Mapping[int, bytes], accept: str) -> tuple[bytes, str]:
    """The page of processes, by their number, and its content type. accept: as in Telemetry.page.

    >>> from varve.telemetry.registry import Telemetry
    >>> text, _ = page_of({2: to_json(Telemetry().registry)}, "")
    >>> 'varve_build_info{process="2",version=' in text.decode()
    True
    """
    merged: dict[str, Metric] = {}
    for number, content in sorted(said.items()):
        for family in json.loads(content):
            known = merged.setdefault(
                family["name"],
                Metric(family["name"], family["help"], family["type"], family["unit"]),
            )
            known.samples += [
                Sample(name, labels | {LABEL: str(number)}, value)
                for name, labels, value in family["samples"]
            ]
    registry = CollectorRegistry()
    registry.register(_Said(merged.values()))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Said:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def describe(self) -> Iterable[Metric]:
        return ()
