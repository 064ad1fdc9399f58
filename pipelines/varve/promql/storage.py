"""What the engine asks of a storage: matchers and a time range in, columns out.

varve.query.view implements `Storage` over the tables, and varve.promql.testing in memory. Nothing
here knows of files or of a network. tests/unit/promql/storage_suite.py tests any implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.ast import Matcher

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _any_number(_samples: int) -> None:
    """Admits everything."""


@dataclass(frozen=True, slots=True)
class WindowFunction:
    """What will be computed of the windows of a selector.

    name: the function of a range vector; "" for an instant selector, "timestamp" if only the time
    of its samples is wanted. A window is (time - range_ms, time] for each of `count` times, Unix
    ms, step_ms apart; step_ms may be 0.
    """

    name: str
    range_ms: int
    first_ms: int
    step_ms: int = 0
    count: int = 1

    @property
    def is_instant(self) -> bool:
        """Whether only the last sample of a window counts."""
        return self.name in ("", "timestamp")

    @property
    def times(self) -> Int64s:
        """Where the windows end."""
        return self.first_ms + self.step_ms * np.arange(self.count, dtype=np.int64)

    @property
    def span(self) -> tuple[int, int]:
        """The range (start, end] that all windows lie in."""
        last_ms = self.first_ms + self.step_ms * (self.count - 1)
        return self.first_ms - self.range_ms, last_ms


@dataclass(frozen=True, slots=True)
class TierChoice:
    """That rows of rollups answer a function of windows, and why; made by a storage.

    tier: the widest rows that are read, such as 1h. series, rows: about how many are selected.
    moved_ms: by how much at most ends of windows are moved to earlier times; 0 if the answer is
    that of the samples, as docs/tiers.md says of the function.
    """

    tier: str
    why: str
    series: int
    rows: int
    moved_ms: int = 0


@dataclass(frozen=True, slots=True)
class SelectHints:
    """What the engine will do with a selection. A storage may ignore what it says of the query.

    function: the innermost function or aggregation over the selector, "" if there is none.
    range_ms: the length of the windows, 0 for an instant selector. step_ms: the time between two
    evaluations, 0 if there is one only. grouping, by: the labels of the aggregation around it.
    choice: what the storage chose for the windows; None if samples are wanted.

    leaf: whether only a function of the windows that a kernel computes is wanted, so that the
    selection may be `elsewhere`.

    A storage calls `check` (interrupt.py) between pieces of work of some milliseconds, and `admit`
    with how many samples it will hold, once it knows that and before it takes memory for them: it
    raises LimitError if they are too many.
    """

    function: str = ""
    range_ms: int = 0
    step_ms: int = 0
    grouping: tuple[str, ...] = ()
    by: bool = False
    choice: TierChoice | None = None
    leaf: bool = False
    check: Check = field(default=never, compare=False, repr=False)
    admit: Callable[[int], None] = field(default=_any_number, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """The samples of some rows of Samples: those of row rows.start + i are begins[i]:ends[i] of the
    columns, which are there until the next block is asked for.
    """

    rows: slice
    ts: Int64s
    values: Float64s
    begins: Int64s
    ends: Int64s
    has_stale: Bools


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of many series, as ranges of shared columns.

    Series i has the samples begins[i]:ends[i] of `ts` (Unix ms, strictly ascending within a
    series) and `values`, where the bits of staleness.STALE_NAN mark the end of a series.
    has_stale[i] may be False only if series i has no such marker.

    histograms, where not None, holds a FloatHistogram or None for each sample, and
    has_histograms[i] tells whether series i has any; the values beside them mean nothing but
    for the stale marker. start_ts, where not None, holds the start timestamp of each sample,
    0 if unknown. All columns are C-contiguous and of exactly the types below; they are never
    changed and may be read-only.
    """

    ts: Int64s
    values: Float64s
    begins: Int64s
    ends: Int64s
    has_stale: Bools
    histograms: npt.NDArray[Any] | None = None
    has_histograms: Bools | None = None
    start_ts: Int64s | None = None

    @property
    def series(self) -> int:
        return len(self.begins)

    def whole(self) -> Samples:
        """The samples, with columns that are there: a storage may make them only now."""
        return self

    def within(self, start_ms: int, end_ms: int) -> Samples:  # noqa: ARG002 - of a storage
        """The samples in (start_ms, end_ms] of every series; there may be others among them."""
        return self

    def blocks(self, rows: slice) -> Iterator[SampleBlock]:
        """The floats of some series, one block after the other; at least one, if it is empty."""
        yield SampleBlock(
            rows,
            self.ts,
            self.values,
            self.begins[rows],
            self.ends[rows],
            self.has_stale[rows],
        )

    def take(self, rows: Int64s) -> Samples:
        """Some of the series, which share the columns."""
        return Samples(
            self.ts,
            self.values,
            self.begins[rows],
            self.ends[rows],
            self.has_stale[rows],
            self.histograms,
            None if self.has_histograms is None else self.has_histograms[rows],
            self.start_ts,
        )


@dataclass(frozen=True, slots=True)
class Sketches:
    """Sparse histograms of rollup rows: that of row r is keys and counts [begins[r], ends[r])."""

    begins: Int64s
    ends: Int64s
    keys: npt.NDArray[np.int32]
    counts: Int64s


@dataclass(frozen=True, slots=True)
class RollupRows:
    """Rows of rollups of some series, as ranges of shared columns.

    Series series[i] of the selection has the rows begins[i]:ends[i], whose spans follow one another
    and end at `end` (Unix ms, ascending). They need not be of one width: no row reaches across an
    end of a range, and only for instant selectors may one reach across a start. The ranges are
    (range_starts[k], range_ends[k]], Unix ms, both ascending: the windows that the choice was made
    for, in order, moved where it says so.
    `columns` has those of schemas/tables/rollup.sql that the function reads, as
    varve.rollups.algebra.Rows has them; others may be missing.
    """

    series: Int64s
    end: Int64s
    begins: Int64s
    ends: Int64s
    range_starts: Int64s
    range_ends: Int64s
    columns: Mapping[str, npt.NDArray[Any]]
    sketches: Sketches | None = None


class Rollups(Protocol):
    """Rows of rollups in place of samples. They are read block by block, as they are asked for."""

    def blocks(self, steps: int, check: Check) -> Iterator[RollupRows]:
        """The rows of all series that have any, each series in one block.

        steps: how many values will be computed of each series. QueryError as Storage.select.
        """
        ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """A function of the windows (time - range_ms, time] that end at `times`, Unix ms.

    function: its number in kernels.codes. parameters: its scalar arguments, each a value a step, or
    empty. eval_times: the steps, of which `times` may be moved by an offset or @.
    """

    function: int
    range_ms: int
    parameters: tuple[Float64s, Float64s]
    times: Int64s
    eval_times: Int64s

    @property
    def steps(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[int, int]:
        """The range (start, end] that all windows lie in."""
        return int(self.times[0]) - self.range_ms, int(self.times[-1])

    def at(self, steps: slice) -> Leaf:
        """The same at some of the steps."""
        first, second = self.parameters
        return Leaf(
            self.function,
            self.range_ms,
            (first[steps], second[steps]),
            self.times[steps],
            self.eval_times[steps],
        )


@dataclass(frozen=True, slots=True)
class LeafValues:
    """Values, (row x step), and where there are any; touched: samples or rows, each counted once
    for every window that it is in.
    """

    values: Float64s
    present: Bools
    touched: int


class Elsewhere(Protocol):
    """Samples and rows of a selection that are looked at where they are: only what functions of
    windows make of them comes here. Errors are those of Storage.select.
    """

    def by_series(self, leaf: Leaf, check: Check) -> tuple[LeafValues, Int64s]:
        """A function's values of each series of the selection, and the order in which an
        aggregation adds series up.
        """
        ...

    def by_group(
        self, leaf: Leaf, kernel: int, groups: Int64s, size: int, check: Check
    ) -> LeafValues | None:
        """An aggregation (kernels.codes) of a function's values: series i is in groups[i], one of
        `size`. None where `by_series` is to be asked instead.
        """
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Series that matched, sorted by labels, and their samples; row i of both is one series.

    There may be more samples than asked for, before and after: the engine looks only into its
    windows. There may be series without samples in the range. `warnings` goes into the answer.
    rollups: rows that stand in for the samples of some of the series, which have none then.
    elsewhere: where all of it is, if it is not here; only if hints.leaf allows it.
    """

    labels: LabelTable
    samples: Samples
    warnings: tuple[str, ...] = ()
    rollups: Rollups | None = None
    elsewhere: Elsewhere | None = None


def no_samples(series: int) -> Samples:
    """The samples of so many series that have none."""
    none = np.zeros(series, dtype=np.int64)
    return Samples(np.zeros(0, np.int64), np.zeros(0), none, none, np.zeros(series, np.bool_))


class Storage(Protocol):
    """A source of series. Every method may raise errors.StorageError."""

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        hints: SelectHints,
    ) -> Selection:
        """The series that all of `matchers` match, with their samples in (start_ms, end_ms].

        Without matchers that is every series. A matcher on a label that a series lacks sees the
        empty value. Regexes are RE2 and anchored; ValueError if one is malformed. Of copies of a
        sample the greatest counts (varve.model.copies). Equal selections should share one
        LabelTable: what the engine computes from it is kept with it. With hints.choice the
        selection has rollups, for the windows that the choice was made for.
        """
        ...

    def choose(
        self, matchers: Sequence[Matcher], windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        """Whether rows of rollups are to answer a function of windows, and which.

        None if samples are. QueryError if neither can, since they have expired: its text says what
        to ask instead. check: see interrupt.py.
        """
        ...

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        """Upper bounds of the series and samples that `select` would give; it reads no samples.

        A query that fits the limits by these numbers is not looked at more closely. check: see
        interrupt.py.
        """
        ...

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """The names of labels of series that one of the matcher lists matches, sorted.

        Without any list that is every series. Series without samples in [start_ms, end_ms] may or
        may not count; the same holds below.
        """
        ...

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """The distinct values of a label, sorted."""
        ...

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        """The label sets of series that one of the matcher lists matches, sorted, each once."""
        ...
