"""Definitions that a task brings to the driver: a few in its outcome, many in a file.

What tasks tell the driver passes through the heap of its JVM, and millions of new series would not
fit there. So a task that has many writes them to a file of the table series that no commit ever
names; the driver reads it in pieces, registers each, and deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varve.ingest.limits import Limits
from varve.ingest.outcome import Outcome
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import Registration, SeriesRegistry, series_rows
from varve.model.identity import SeriesDefinition
from varve.storage.files import NewFile, write_file
from varve.storage.store import Store

# Definitions up to here travel in the outcome: about 2 MB.
INLINE = 5_000
# Definitions that the driver holds at once, at about 1 KB each.
PIECE = 100_000

_TABLE = "series"


def write(store: Store, new: Sequence[Registration]) -> NewFile:
    """Writes definitions to a file of their own."""
    return write_file(store, _TABLE, series_rows(new, 0))


def register(
    registry: SeriesRegistry, store: Store, outcomes: Sequence[Outcome], limits: Limits
) -> dict[SeriesKey, Reason]:
    """Registers the series that tasks have found, and returns the refused ones and why. Leaves the
    files there: the tasks that hold refused series are still to be found. Raises like
    SeriesRegistry.register.
    """
    refused: dict[SeriesKey, Reason] = {}
    inline = [found for outcome in outcomes for found in outcome.definitions]
    for piece in (inline, *_pieces(store, outcomes)):
        if piece:
            refused |= registry.register(piece, limits)
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


def _pieces(store: Store, outcomes: Iterable[Outcome]) -> Iterator[list[Registration]]:
    for outcome in outcomes:
        for file in outcome.definition_files:
            for batch in _batches(store, file, None):
                yield [_registration(row) for row in batch.to_pylist()]


def _batches(store: Store, file: NewFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with store.filesystem(_TABLE).open_input_file(file.path) as source:
        yield from pq.ParquetFile(source).iter_batches(PIECE, columns=columns)


def _registration(row: Mapping[str, Any]) -> Registration:
    definition = SeriesDefinition(
        row["series_id"],
        row["check"],
        row["metric"],
        tuple(row["tags"]),
        row["type"],
        row["unit"],
        row["help"],
    )
    return definition, row["first_seen"]
