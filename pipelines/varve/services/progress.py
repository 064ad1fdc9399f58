"""How far everything is, read from Kafka and the tables' logs: no Spark, no Java.

Positions, completeness and frontiers are transactions of the tables (docs/adr/0007), so any process
that sees the tables can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from varve.kafka.client_options import client_options
from varve.kafka.offsets import Topics
from varve.kafka.partitions import Partition
from varve.model.errors import NeedsOperator
from varve.model.window import TIERS
from varve.settings import Settings
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition of an ingest query. end: next offset Kafka will give. stored: next offset to
    read, None if nothing was read yet.
    """

    query: str
    partition: Partition
    end: int
    stored: int | None

    @property
    def messages(self) -> int:
        """Messages Kafka may have that are not in the table; none if never read and empty."""
        return max(0, self.end - (self.stored or 0))


@dataclass(frozen=True, slots=True)
class Progress:
    """rows: by table, copies and replaced revisions included. rejected: samples by reason.

    complete_ms: by ingest query, the time up to which input is complete. frontier_ms: by tier, the
    end of its last closed window. newest_ms: the newest sample. All ms since the epoch.
    """

    rows: Mapping[str, int]
    complete_ms: Mapping[str, int | None]
    frontier_ms: Mapping[str, int | None]
    rejected: Mapping[str, int]
    newest_ms: int | None


def table_store(settings: Settings) -> Store:
    return Store(settings.storage_root(), settings.storage_options())


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Arguments of a kafka-python client."""
    options = client_options(settings.kafka.client_options())
    return options | {"bootstrap_servers": settings.kafka.servers()}


def lags(settings: Settings) -> list[Lag]:
    """Of all partitions of all ingest queries. Raises TemporaryError without Kafka, NeedsOperator
    without tables or topics.
    """
    samples = Table(table_store(settings), "samples")
    found = []
    for query, topic in settings.ingest_queries().items():
        topics = Topics(kafka_options(settings), [topic])
        try:
            ends = topics.latest(topics.partitions())
        finally:
            topics.close()
        found += [
            Lag(query, partition, end, samples.position(partition.position(query)))
            for partition, end in sorted(ends.items())
        ]
    return found


def progress(settings: Settings) -> Progress:
    """Raises NeedsOperator if the tables do not exist."""
    store = table_store(settings)
    samples = Table(store, "samples")
    files = samples.live_files()
    tables = {tier.name: Table(store, tier.table) for tier in TIERS}
    rows = {"samples": _rows(samples)}
    rows |= {name: _rows(Table(store, name)) for name in ("series", "quarantine")}
    rows |= {tier.table: _rows(tables[tier.name]) for tier in TIERS}
    return Progress(
        rows=rows,
        complete_ms={q: samples.position(positions.complete(q)) for q in settings.ingest_queries()},
        frontier_ms={
            name: table.position(positions.frontier(name)) for name, table in tables.items()
        },
        rejected=_rejected(store),
        newest_ms=max((f.maximum["ts"] for f in files.values() if "ts" in f.maximum), default=None),
    )


def created(settings: Settings) -> bool:
    """Whether the tables have been created yet."""
    try:
        Table(table_store(settings), "samples")
    except NeedsOperator:
        return False
    return True


def _rows(table: Table) -> int:
    return sum(file.rows for file in table.live_files().values())


def _rejected(store: Store) -> dict[str, int]:
    rows = snapshot(store, "quarantine").scan(Bounds(), columns=["reason", "samples"])
    counts = rows.group_by("reason").aggregate([("samples", "sum")])
    pairs = zip(counts["reason"].to_pylist(), counts["samples_sum"].to_pylist(), strict=True)
    return dict(sorted(pairs))
