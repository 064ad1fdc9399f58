"""Steps of range queries that were computed before: a panel that is refreshed computes new ones.

A step is kept with the versions of the tables that it was computed from. Another view gives the
same while it is computed from the same rows, and no commit in between touched the time that its
selectors look at; what late samples, repairs, deletions and the like touched is computed anew. Only
answers without warnings or infos are kept: what is partial or approximate never is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.values import Matrix, QueryResult, Stats
from varve.promql.interrupt import Check
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.labels.label_table import Labels, LabelTable
from varve.promql.plan import nodes
from varve.promql.plan.durations import QueryRange, length_ms, offset_ms
from varve.promql.plan.nodes import Plan
from varve.promql.storage import WindowFunction
from varve.promql.syntax.ast import Duration, Matcher, NumberLiteral
from varve.query.changes import Span
from varve.query.memory import STEPS, MemoryBudget

Key = tuple[str, str, int, int, int, str | None]
"""Identity of the table samples, expression, step, the rest of the steps' times by it, lookback,
tier that was asked for."""

# So many pieces of missing steps are worth an evaluation each; and so large a share must be there.
_MOST_PIECES: Final = 4
_LEAST_SHARE: Final = 0.5
_SERIES_BYTES: Final = 600
_NO_TIME = QueryRange(0, 0, 0)
NO_STATS: Final = Stats(0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Reach:
    """A selector and what it looks at from a step's time t: (t - offset_ms - range_ms, t -
    offset_ms]. function: what is computed of it, as storage.WindowFunction names it.
    """

    matchers: tuple[Matcher, ...]
    function: str
    offset_ms: int
    range_ms: int

    def windows(self, times: I64) -> WindowFunction:
        first = int(times[0])
        step = int(times[1]) - first if len(times) > 1 else 0
        return WindowFunction(
            self.function, self.range_ms, first - self.offset_ms, step, len(times)
        )


@dataclass(frozen=True, slots=True)
class KeptSteps:
    """The values of some steps, as of versions of tables.

    marks: what each step was computed from, as step_sources.StepSources has it.
    """

    versions: Mapping[str, int]
    times: I64
    marks: npt.NDArray[np.uint64]
    labels: LabelTable
    rows: dict[Labels, int]
    values: F64
    present: Bools

    @property
    def nbytes(self) -> int:
        steps = 8 * len(self.times) + self.marks.nbytes
        return 9 * self.values.size + _SERIES_BYTES * len(self.rows) + steps

    def is_of_or_before(self, versions: Mapping[str, int]) -> bool:
        """Whether no table was newer when they were computed."""
        return all(version <= versions.get(table, -1) for table, version in self.versions.items())


def reaches_of(plan: Plan, lookback_ms: int) -> tuple[Reach, ...] | None:
    """The selectors of a query each of whose steps depends on its own time alone; None if that is
    not so, or there is no selector.
    """
    found: list[Reach] = []
    dated, valued = _instant_selectors(plan)
    for node in nodes.walk(plan.root):
        fused = node.source if isinstance(node, nodes.FusedAggregation) else node
        source = fused.source if isinstance(fused, nodes.RangeCall) else fused
        if isinstance(source, nodes.SubquerySelect) or _depends_on_series_or_range(node):
            return None
        if not isinstance(source, nodes.InstantSelect | nodes.RangeSelect):
            continue
        selector = source.selector
        if selector.at is not None or selector.anchored or selector.smoothed:
            return None
        if not _is_fixed(selector.offset):
            return None
        offset = offset_ms(selector.offset, _NO_TIME)
        if isinstance(source, nodes.InstantSelect):
            used = {"timestamp": id(source) in dated, "": fused is not node or id(source) in valued}
            names = tuple(name for name, is_used in used.items() if is_used)
            range_ms = lookback_ms
        elif not _is_fixed(source.range):
            return None
        else:
            names = (fused.name,) if isinstance(fused, nodes.RangeCall) else ()
            range_ms = length_ms(source.range, _NO_TIME)
        found += [Reach(selector.matchers, name, offset, range_ms) for name in names]
    return tuple(dict.fromkeys(found)) or None


def _instant_selectors(plan: Plan) -> tuple[set[int], set[int]]:
    """The nodes right below timestamp(), and those below others, by id: of one the times of
    samples are wanted, of the other their values.
    """
    dated, valued = set[int](), {id(plan.root)}
    for node in nodes.walk(plan.root):
        is_timestamp = isinstance(node, nodes.FunctionCall) and node.func == "timestamp"
        (dated if is_timestamp else valued).update(map(id, node.children()))
    return dated, valued


def _depends_on_series_or_range(node: nodes.Node) -> bool:
    """info() selects series of its own, beside those that the plan shows."""
    return isinstance(node, nodes.FunctionCall) and node.func == "info"


def _is_fixed(duration: Duration | None) -> bool:
    return duration is None or isinstance(duration, NumberLiteral)


def untouched(times: I64, reaches: Sequence[Reach], changes: Sequence[Span]) -> Bools:
    """Which steps look at no time that changed."""
    found: Bools = np.ones(len(times), dtype=np.bool_)
    for begin, end in changes:
        for reach in reaches:
            low = np.searchsorted(times, begin + reach.offset_ms, "left")
            high = np.searchsorted(times, end + reach.offset_ms + reach.range_ms, "left")
            found[low:high] = False
    return found


class Times(Protocol):
    """Times from start on, a step apart, Unix ms."""

    @property
    def start_ms(self) -> int: ...
    @property
    def step_ms(self) -> int: ...


class Steps(Protocol):
    """Where steps are kept; what was put may be gone. `close` lets go of all, at the end."""

    def get(self, key: Key) -> KeptSteps | None: ...
    def put(self, key: Key, steps: KeptSteps) -> None: ...
    def close(self) -> None: ...


class StepCache:
    """The least recently used steps go first. Safe to use from many threads."""

    def __init__(self, max_bytes: int, budget: MemoryBudget) -> None:
        self._max_bytes = max_bytes
        self._budget = budget
        self._held: OrderedDict[Key, KeptSteps] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        budget.add_cache(self._shrink)

    @property
    def nbytes(self) -> int:
        return self._bytes

    def get(self, key: Key) -> KeptSteps | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, steps: KeptSteps) -> None:
        with self._lock:
            old = self._held.pop(key, None)
            freed = 0 if old is None else old.nbytes
            self._bytes -= freed
            self._budget.add(STEPS, -freed)
            if steps.nbytes > self._max_bytes:
                return
            self._drop(self._bytes + steps.nbytes - self._max_bytes)
            self._held[key] = steps
            self._bytes += steps.nbytes
            self._budget.add(STEPS, steps.nbytes)

    def close(self) -> None:
        self._shrink(self._bytes)

    def _shrink(self, nbytes: int) -> int:
        with self._lock:
            return self._drop(nbytes)

    def _drop(self, nbytes: int) -> int:
        freed = 0
        while freed < nbytes and self._held:
            freed += self._held.popitem(last=False)[1].nbytes
        self._bytes -= freed
        self._budget.add(STEPS, -freed)
        return freed


def keepable(
    result: QueryResult, versions: Mapping[str, int], marks: npt.NDArray[np.uint64]
) -> KeptSteps | None:
    """The steps of a result; None if it is none to keep."""
    if result.warnings or result.infos or not isinstance(result.value, Matrix):
        return None
    matrix = result.value
    if matrix.histograms is not None:
        return None
    if len(result.order) < matrix.series or (np.diff(result.order) != 1).any():
        matrix = matrix.take(result.order)
    labels = matrix.labels.labels()
    rows = {one: row for row, one in enumerate(labels)}
    return KeptSteps(
        versions, result.times, marks, matrix.labels, rows, matrix.values, matrix.present
    )


def missing_pieces(usable: Bools) -> list[slice] | None:
    """Which of the steps have to be computed, as the others are usable; None if most do, or here
    and there.
    """
    if np.count_nonzero(usable) < _LEAST_SHARE * len(usable):
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[True], usable, [True]]).astype(np.int8)))
    pieces = [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return pieces if len(pieces) <= _MOST_PIECES else None


def join(
    kept: KeptSteps,
    times: I64,
    pieces: Sequence[tuple[slice, KeptSteps]],
    versions: Mapping[str, int],
    marks: npt.NDArray[np.uint64],
    take: Callable[[int], None],
) -> KeptSteps:
    """The steps at `times`: the pieces that were computed, and what is kept for all others."""
    rows, labels = kept.rows, kept.labels
    new = [one for _, piece in pieces for one in piece.rows if one not in rows]
    if new:
        everyone = sorted({*rows, *new})
        rows = {one: row for row, one in enumerate(everyone)}
        labels = LabelTable.of([dict(one) for one in everyone])
    take(9 * len(rows) * len(times))
    values = np.zeros((len(rows), len(times)))
    present = np.zeros((len(rows), len(times)), dtype=np.bool_)
    here, place = shared(times, kept.times)
    if new:
        target = np.array([rows[one] for one in kept.rows], dtype=np.int64)
        values[target, here], present[target, here] = kept.values[:, place], kept.present[:, place]
    else:
        values[:, here], present[:, here] = kept.values[:, place], kept.present[:, place]
    for span, piece in pieces:
        target = np.array([rows[one] for one in piece.rows], dtype=np.int64)
        values[:, span], present[:, span] = 0.0, False
        values[target, span], present[target, span] = piece.values, piece.present
    return KeptSteps(versions, times, marks, labels, rows, values, present)


def shared(times: I64, kept: I64) -> tuple[slice, slice]:
    """Where the times that both have are in each; of one grid, both ascend without gaps."""
    begin, end = max(times[0], kept[0]), min(times[-1], kept[-1])
    here = np.searchsorted(times, [begin, end + 1])
    there = np.searchsorted(kept, [begin, end + 1])
    return slice(int(here[0]), int(here[1])), slice(int(there[0]), int(there[1]))


def between(kept: KeptSteps, start_ms: int, end_ms: int) -> KeptSteps:
    """The steps that are kept of times from start_ms to end_ms."""
    first, last = np.searchsorted(kept.times, [start_ms, end_ms + 1])
    here = slice(int(first), int(last))
    values, present = kept.values[:, here], kept.present[:, here]
    marks = kept.marks[:, here]
    return replace(kept, times=kept.times[here], marks=marks, values=values, present=present)


def result_of(steps: KeptSteps, stats: Stats, check: Check) -> QueryResult:
    """The steps as the result of a range query. check: see interrupt.py."""
    no_drop = np.zeros(len(steps.rows), dtype=np.bool_)
    matrix = Matrix(steps.labels, steps.values, steps.present, no_drop)
    order = steps.labels.sort_order(check)
    order = order[matrix.has_samples()[order]]
    return QueryResult("matrix", matrix, order, steps.times, [], [], stats, check)


def key_of(table: str, expression: str, times: Times, lookback_ms: int, tier: str | None) -> Key:
    """table: of the view that they are computed from."""
    return table, expression, times.step_ms, times.start_ms % times.step_ms, lookback_ms, tier
