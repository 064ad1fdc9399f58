"""What the engine asks of a storage: matchers and a time range in, columns out.

varve.query.view implements `Storage` over the tables, and varve.promql.testing in memory. Nothing
here knows of files or of a network. tests/unit/promql/storage_suite.py tests any implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
class SelectHints:
    """What the engine will do with a selection. A storage may ignore what it says of the query.

    function: the innermost function or aggregation over the selector, "" if there is none.
    range_ms: the length of the windows, 0 for an instant selector. step_ms: the time between two
    evaluations, 0 if there is one only. grouping, by: the labels of the aggregation around it.

    A storage calls `check` (interrupt.py) between pieces of work of some milliseconds, and `admit`
    with how many samples it will hold, once it knows that and before it takes memory for them: it
    raises LimitError if they are too many.
    """

    function: str = ""
    range_ms: int = 0
    step_ms: int = 0
    grouping: tuple[str, ...] = ()
    by: bool = False
    check: Check = field(default=never, compare=False, repr=False)
    admit: Callable[[int], None] = field(default=_any_number, compare=False, repr=False)


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
class Selection:
    """Series that matched, sorted by labels, and their samples; row i of both is one series.

    There may be more samples than asked for, before and after: the engine looks only into its
    windows. There may be series without samples in the range. `warnings` goes into the answer.
    """

    labels: LabelTable
    samples: Samples
    warnings: tuple[str, ...] = ()


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
        LabelTable: what the engine computes from it is kept with it.
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
