"""A leaf of a query as work for other processes: what they are sent, and what they send back.

A job has all that it needs: files, series, rows of tiers that were chosen, the function. Its tasks
do not depend on one another; each gives the bits that the query service would compute itself, since
it runs the same kernels over the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from varve.promql.errors import QueryError, StorageError
from varve.promql.evaluation import leaves
from varve.promql.evaluation.leaves import GroupedLeaf
from varve.promql.evaluation.limits import Budget, Limits
from varve.promql.interrupt import never
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import Leaf, LeafValues, Rollups, Samples, no_samples
from varve.query.cold_files import reading, row_groups
from varve.query.cover import Cover
from varve.query.decoded_files import DecodedFiles
from varve.query.file_table import FileTable
from varve.query.memory import Reservation
from varve.query.provenance import Provenance
from varve.query.rollup_groups import RollupGroups
from varve.query.rollup_reader import RollupReader
from varve.query.row_group_cache import RowGroupCache
from varve.query.sample_selection import select_samples, spread
from varve.query.selector_plan import JoinedRollups
from varve.query.series_index import IndexBuilder, SelectedSeries
from varve.query.tier_choice import PlannedRows
from varve.query.view import FileGone, View
from varve.storage.store import Store

COLUMNS: Final = (
    "first long, touched long, samples long, rows long, bytes long,"
    " series long, values binary, present binary, error string, gone boolean"
)
"""What a task sends back, row by row, as Spark writes a schema."""

_BLOCK_BYTES: Final = 8 << 20
"""Of values in a row that is sent back: far below what gRPC takes at once."""
_CACHE_BYTES: Final = 256 << 20
_LIMITS: Final = Limits(None, None, None, None)


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Rows of tiers that stand in for the samples of some series, as tier_choice chose them."""

    by_id: I64
    rows: PlannedRows
    cover: Cover


@dataclass(frozen=True, slots=True)
class Groups:
    """An aggregation: see leaves.GroupedLeaf."""

    kernel: int
    ids: I64
    size: int


@dataclass(frozen=True, slots=True)
class LeafJob:
    """series_ids, by_id: as in SelectedSeries. raw: the series that samples answer, in ascending
    order of id; `rollups` answer all others. files: those that may hold such samples.

    With groups each task is about some steps, without about some places of by_id: from tasks[i] to
    tasks[i + 1].
    """

    store: Store
    leaf: Leaf
    series_ids: I64
    by_id: I64
    raw: I64
    files: FileTable
    rollups: tuple[ChosenRows, ...]
    groups: Groups | None
    tasks: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return len(self.tasks) - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Some of what a task found.

    first: the step that the values begin at, or the place of by_id. values: (row x step). touched:
    as in LeafValues; samples: those that were selected; rows, nbytes: what was read. Each is told
    once for a task, with its first outcome.
    """

    first: int
    found: LeafValues
    samples: int = 0
    rows: int = 0
    nbytes: int = 0


def run(job: LeafJob, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs the tasks whose numbers come in a column `id`, inside mapInArrow."""
    for batch in numbers:
        for number in batch.column("id").to_pylist():
            try:
                for outcome in run_task(job, number):
                    yield _as_batch(outcome)
            except QueryError as err:
                yield _failed(str(err), gone=isinstance(err, FileGone))


def run_task(job: LeafJob, number: int) -> Iterator[Outcome]:
    """Runs one task. QueryError if a file cannot be read, FileGone if it is not there any more."""
    begin, end = job.tasks[number], job.tasks[number + 1]
    with closing(DecodedFiles(job.store.open_file, _CACHE_BYTES, threads=2)) as files:
        task = _Task(job, _view(job, files))
        if job.groups is not None:
            yield task.by_group(slice(begin, end), job.groups)
        else:
            yield from task.by_series(begin, end)


@dataclass(frozen=True)
class _Task:
    job: LeafJob
    view: View

    def by_group(self, steps: slice, groups: Groups) -> Outcome:
        """The values of groups at some steps."""
        job, leaf = self.job, self.job.leaf.at(steps)
        grouped = GroupedLeaf(leaf, groups.kernel, groups.ids, groups.size)
        if job.rollups:
            readers = [
                self._reader(chosen, chosen.by_id, chosen.cover.at(steps)) for chosen in job.rollups
            ]
            found = grouped.of_rollups(_budget(), JoinedRollups(readers))
            return Outcome(
                steps.start,
                found,
                rows=sum(reader.amount.rows for reader in readers),
                nbytes=sum(reader.amount.nbytes for reader in readers),
            )
        samples = self._samples(leaf, job.series_ids, job.by_id)
        found = grouped.of_samples(samples, slice(0, leaf.steps), never, alone=True)
        return Outcome(steps.start, found, *_amount(samples))

    def by_series(self, begin: int, end: int) -> Iterator[Outcome]:
        """The values of the series at some places of by_id, some series at a time."""
        job = self.job
        here = job.by_id[begin:end]
        place = np.full(len(job.series_ids), -1, dtype=np.int64)
        place[here] = np.arange(len(here))
        samples = no_samples(len(here))
        raw = job.raw[place[job.raw] >= 0]
        if len(raw):
            found = self._samples(job.leaf, job.series_ids[raw], np.arange(len(raw))).whole()
            samples = spread(found, place[raw], len(here))
        readers = [
            RollupReader(
                self.view,
                _unnamed(job.series_ids[here]),
                place[own],
                chosen.rows,
                chosen.cover,
                Reservation(),
                reading,
            )
            for chosen in job.rollups
            if len(own := chosen.by_id[place[chosen.by_id] >= 0])
        ]
        rollups: Rollups | None = JoinedRollups(readers) if readers else None
        whole = leaves.by_series(_budget(), job.leaf, samples, rollups)
        size, rows, nbytes = _amount(samples)
        rows += sum(reader.amount.rows for reader in readers)
        nbytes += sum(reader.amount.nbytes for reader in readers)
        touched, width = whole.touched, max(1, _BLOCK_BYTES // (9 * job.leaf.steps))
        for first in range(0, len(here), width):
            some = slice(first, first + width)
            part = LeafValues(whole.values[some], whole.present[some], touched)
            yield Outcome(begin + first, part, size, rows, nbytes)
            touched = size = rows = nbytes = 0

    def _samples(self, leaf: Leaf, series_ids: I64, by_id: I64) -> Samples:
        start_ms, end_ms = leaf.span
        ids = series_ids[by_id]
        with reading():
            groups = row_groups(self.view, ids, start_ms, end_ms, never)
            read = self.view.row_groups.read(groups, never)
            return select_samples([], read, series_ids, by_id, start_ms, end_ms)

    def _reader(self, chosen: ChosenRows, by_id: I64, cover: Cover) -> RollupReader:
        series = SelectedSeries(self.job.series_ids, _NO_LABELS, self.job.by_id)
        return RollupReader(self.view, series, by_id, chosen.rows, cover, Reservation(), reading)


_NO_LABELS: Final = LabelTable.of([])


def _unnamed(series_ids: I64) -> SelectedSeries:
    """Series, in ascending order of id."""
    return SelectedSeries(series_ids, _NO_LABELS, np.arange(len(series_ids)))


def _view(job: LeafJob, files: DecodedFiles) -> View:
    """What readers need of a view."""
    return View(
        IndexBuilder().index(),
        (),
        job.files,
        job.files,
        RowGroupCache(files),
        Provenance({}, None),
        rollups=RollupGroups(files),
    )


def _budget() -> Budget:
    return Budget(_LIMITS)


def _amount(samples: Samples) -> tuple[int, int, int]:
    """How many samples there are, as samples and as rows, and their bytes."""
    size = int((samples.ends - samples.begins).sum())
    return size, size, 16 * size


def _as_batch(outcome: Outcome) -> pa.RecordBatch:
    found = outcome.found
    return _batch(
        first=outcome.first,
        touched=found.touched,
        samples=outcome.samples,
        rows=outcome.rows,
        bytes=outcome.nbytes,
        series=found.values.shape[0],
        values=np.ascontiguousarray(found.values, dtype="<f8").tobytes(),
        present=np.packbits(found.present, axis=None).tobytes(),
        gone=False,
    )


def _failed(error: str, *, gone: bool) -> pa.RecordBatch:
    return _batch(error=error, gone=gone)


_TYPES: Final = {
    "long": pa.int64(),
    "binary": pa.binary(),
    "string": pa.string(),
    "boolean": pa.bool_(),
}
_SCHEMA: Final = pa.schema(
    [(name, _TYPES[kind]) for name, kind in (column.split() for column in COLUMNS.split(","))]
)


def _batch(**row: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([row], _SCHEMA)


def outcome_of(row: Mapping[str, Any], steps: int) -> Outcome:
    """An outcome of a row that `run` gave, of a task about so many steps at most. StorageError, or
    FileGone, if it says that the task has failed.
    """
    if row["error"] is not None:
        raise (FileGone if row["gone"] else StorageError)(row["error"])
    values = np.frombuffer(row["values"], "<f8").astype(np.float64)
    bits = np.unpackbits(np.frombuffer(row["present"], np.uint8), count=len(values))
    series = row["series"]
    shape = (series, len(values) // series if series else steps)
    found = LeafValues(values.reshape(shape), bits.astype(np.bool_).reshape(shape), row["touched"])
    return Outcome(row["first"], found, row["samples"], row["rows"], row["bytes"])
