"""Definitions that a task brings to the driver: a few in its outcome, many in a file.

What tasks tell the driver passes through the heap of its JVM, and millions of new series would not
fit there. So a task that has many writes them to a file of the table series that no commit ever
names; the driver reads it in pieces, registers each, and deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from varve.ingest.limits import Limits
from varve.ingest.outcome import Outcome
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import SeriesRegistry
from varve.storage.files import NewFile, write_file
from varve.storage.store import Store

# Definitions up to here travel in the outcome: about 2 MB.
INLINE = 5_000
# Definitions that the driver holds at once.
PIECE = 100_000

_TABLE = "series"


def write(store: Store, rows: pa.Table) -> NewFile:
    """Writes rows of the table series to a file of their own."""
    return write_file(store, _TABLE, rows)


def register(
    registry: SeriesRegistry, store: Store, outcomes: Sequence[Outcome], limits: Limits
) -> dict[SeriesKey, Reason]:
    """Registers the series that tasks have found, and returns the refused ones and why. Leaves the
    files there: the tasks that hold refused series are still to be found. Raises like
    SeriesRegistry.register.
    """
    refused: dict[SeriesKey, Reason] = {}
    inline = [found for outcome in outcomes for found in outcome.definitions]
    if inline:
        refused |= registry.register(inline, limits)
    for outcome in outcomes:
        for file in outcome.definition_files:
            for piece in _batches(store, file, None):
                refused |= registry.register_rows(pa.Table.from_batches([piece]), limits)
    return refused


def holds_any(store: Store, outcome: Outcome, keys: Mapping[SeriesKey, Reason]) -> bool:
    """Whether one of the series is among those that the task has found."""
    if not keys:
        return False
    if any((d.series_id, d.check) in keys for d, _ in outcome.definitions):
        return True
    return any(
        not keys.keys().isdisjoint(
            zip(batch["series_id"].to_pylist(), batch["check"].to_pylist(), strict=True)
        )
        for file in outcome.definition_files
        for batch in _batches(store, file, ["series_id", "check"])
    )


def remove(store: Store, outcomes: Iterable[Outcome]) -> None:
    """Deletes the files, once nobody needs them. One that a crash leaves is in no commit."""
    filesystem = store.filesystem(_TABLE)
    for outcome in outcomes:
        for file in outcome.definition_files:
            filesystem.delete_file(file.path)


def _batches(store: Store, file: NewFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with store.filesystem(_TABLE).open_input_file(file.path) as source:
        yield from pq.ParquetFile(source).iter_batches(PIECE, columns=columns)
