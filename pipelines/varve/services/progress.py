"""How far ingest and rollups are, read from Kafka and the logs of the tables, without a JVM.

Positions, completeness and frontiers are transactions of the tables (docs/adr/0007), so any process
that sees the tables can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from varve.kafka.client_options import Cluster
from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import Partition
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.window import TIERS
from varve.query.storage_usage import Prices
from varve.settings import Settings
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, existing


@dataclass(frozen=True, slots=True)
class Lag:
    """How far an ingest query is behind in one partition."""

    query: str
    partition: Partition
    end: int
    """The next offset that Kafka will give."""
    stored: int | None
    """The next offset to read; None if nothing was read yet."""

    @property
    def messages(self) -> int:
        """How many messages Kafka may have that are not in the table."""
        return max(0, self.end - (self.stored or 0))


@dataclass(frozen=True, slots=True)
class Progress:
    """What the tables hold and how far they are. Times are ms since the Unix epoch."""

    rows: Mapping[str, int]
    """By table; copies and replaced revisions are counted."""
    complete_ms: Mapping[str, int | None]
    """By ingest query: the time up to which input is complete."""
    frontier_ms: Mapping[str, int | None]
    """By tier: the end of its last closed window."""
    rejected: Mapping[str, int]
    """Samples by reason."""
    newest_ms: int | None
    """Timestamp of the newest sample."""


def table_store(settings: Settings) -> Store:
    """Where the tables are, the colder roots included."""
    colder = [(root, options) for root, options, _ in settings.colder_roots()]
    return Store.of_roots([(settings.storage_root(), settings.storage_options()), *colder])


def backup_store(settings: Settings, place: str) -> Store:
    """A folder or s3://bucket/prefix of backups."""
    options = settings.storage.backup_options
    root = place if "://" in place else str(Path(place).expanduser().absolute())
    return Store(root, {name: value.get_secret_value() for name, value in options.items()})


def prices(settings: Settings) -> Prices:
    """What storage costs by the settings."""
    paid = settings.usage
    return Prices(paid.hot_price, paid.warm_price, paid.cold_price, paid.currency)


def kafka_cluster(settings: Settings) -> Cluster:
    """The brokers of the settings: those that are named, else the one that `varve up` starts."""
    return Cluster(settings.kafka.servers(), settings.kafka.client_options())


def lags(settings: Settings) -> list[Lag]:
    """The lag of all partitions of all ingest queries.

    Raises TemporaryError without Kafka, NeedsOperator without tables or topics.
    """
    tables = _tables_of_queries(settings)
    found = []
    for query, topic in settings.ingest_queries().items():
        if query not in tables:
            continue
        topics = TopicOffsets(kafka_cluster(settings), [topic])
        try:
            if query in RECORD_TABLES and not topics.existing():
                continue
            ends = topics.latest(topics.partitions())
        finally:
            topics.close()
        found += [
            Lag(query, partition, end, tables[query].position(partition.position(query)))
            for partition, end in sorted(ends.items())
        ]
    return found


def left_of(settings: Settings, seen: Sequence[Lag]) -> int:
    """How many of the messages that Kafka had when the lags were taken are not stored yet; what
    has been produced since is not waited for.
    """
    tables = _tables_of_queries(settings)
    stored = (tables[lag.query].position(lag.partition.position(lag.query)) or 0 for lag in seen)
    return sum(max(0, lag.end - at) for lag, at in zip(seen, stored, strict=True))


def progress(settings: Settings) -> Progress:
    """What the tables hold now. Raises NeedsOperator if they do not exist."""
    store = table_store(settings)
    samples = Table(store, "samples")
    files = samples.live_files()
    tables = {tier.name: Table(store, tier.table) for tier in TIERS}
    rows = {"samples": _rows(samples)}
    others = (*RECORD_TABLES, "series", "quarantine")
    rows |= {table.name: _rows(table) for table in existing(store, others)}
    rows |= {tier.table: _rows(tables[tier.name]) for tier in TIERS}
    return Progress(
        rows=rows,
        complete_ms={
            query: table.position(positions.complete(query))
            for query, table in _tables_of_queries(settings).items()
        },
        frontier_ms={
            name: table.position(positions.frontier(name)) for name, table in tables.items()
        },
        rejected=_rejected(store),
        newest_ms=max((f.maximum["ts"] for f in files.values() if "ts" in f.maximum), default=None),
    )


def _tables_of_queries(settings: Settings) -> dict[str, Table]:
    """By ingest query, the table it writes; without those of a home that has none of them yet.
    Raises NeedsOperator if there is no table samples.
    """
    store = table_store(settings)
    samples = Table(store, SAMPLES)
    records = {table.name: table for table in existing(store, settings.record_queries())}
    return dict.fromkeys(settings.sample_queries(), samples) | records


def _rows(table: Table) -> int:
    return sum(file.rows for file in table.live_files().values())


def _rejected(store: Store) -> dict[str, int]:
    rows = snapshot(store, "quarantine").scan(Bounds(), columns=["reason", "samples"])
    counts = rows.group_by("reason").aggregate([("samples", "sum")])
    pairs = zip(counts["reason"].to_pylist(), counts["samples_sum"].to_pylist(), strict=True)
    return dict(sorted(pairs))
