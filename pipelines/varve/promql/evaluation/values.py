"""The values of evaluation: a scalar, a string, an instant vector at each step, raw samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from varve.promql.errors import QueryError
from varve.promql.interrupt import Check, checked, never
from varve.promql.labels.label_table import METRIC_NAME, LabelTable, Rows
from varve.promql.storage import Samples

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[Any]

DUPLICATE_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class Steps:
    """The times at which a part of a query is evaluated: start, start + step, ... (Unix ms).

    is_range: they go from a start to an end, even if one step is all that fits in.
    """

    start: int
    step: int
    count: int
    is_range: bool = False
    _times: list[Int64s] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def instant(cls, at_ms: int) -> Steps:
        return cls(at_ms, 1, 1)

    @classmethod
    def between(cls, start_ms: int, end_ms: int, step_ms: int, *, is_range: bool = True) -> Steps:
        """The steps up to and with end_ms. There is none if that is before start_ms."""
        count = max(0, (end_ms - start_ms) // step_ms + 1)
        return cls(start_ms, step_ms, count, is_range)

    @property
    def times(self) -> Int64s:
        """All steps, ascending. The array is made when it is first asked for."""
        if not self._times:
            self._times.append(self.start + self.step * np.arange(self.count, dtype=np.int64))
        return self._times[0]

    @property
    def end(self) -> int:
        return self.start + self.step * (self.count - 1)


Scalar = Float64s
"""A scalar has one value at each step."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """An instant vector at each step: (series x step) values and where there are any.

    histograms, where not None, holds a FloatHistogram where the sample is one and None where it
    is a float. drop_name marks series whose name, type and unit go when the query is done.
    Parts share arrays: they must not be changed in place.
    """

    labels: LabelTable
    values: Float64s
    present: Bools
    drop_name: Bools
    histograms: Objects | None = None

    @classmethod
    def empty(cls, steps: int) -> Matrix:
        return cls(
            LabelTable.empty_sets(0),
            np.zeros((0, steps)),
            np.zeros((0, steps), dtype=np.bool_),
            np.zeros(0, dtype=np.bool_),
        )

    @property
    def series(self) -> int:
        return self.labels.size

    @property
    def steps(self) -> int:
        return self.values.shape[1]

    def take(self, rows: Rows) -> Matrix:
        return Matrix(
            self.labels.take(rows),
            self.values[rows],
            self.present[rows],
            self.drop_name[rows],
            None if self.histograms is None else self.histograms[rows],
        )

    def select(self, mask: Bools) -> Matrix:
        """The rows where `mask` holds."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def with_values(self, values: Float64s, present: Bools | None = None) -> Matrix:
        """The same series with other float values, their names dropped."""
        return Matrix(
            self.labels,
            values,
            self.present if present is None else present,
            np.ones(self.series, dtype=np.bool_),
        )

    def has_samples(self) -> Bools:
        """Which series have a sample at any step; one bool a series."""
        found: Bools = np.logical_or.reduce(self.present, axis=1)
        return found

    def float_mask(self) -> Bools:
        """Where there is a float sample; (series x step)."""
        if self.histograms is None:
            return self.present
        return self.present & (self.histograms == None)  # noqa: E711 - elementwise

    def histogram_mask(self) -> Bools:
        """Where there is a histogram sample; (series x step)."""
        if self.histograms is None:
            return np.zeros_like(self.present)
        return self.present & (self.histograms != None)  # noqa: E711 - elementwise

    def broadcast(self, steps: int) -> Matrix:
        """The only step, repeated."""
        return Matrix(
            self.labels,
            np.repeat(self.values, steps, axis=1),
            np.repeat(self.present, steps, axis=1),
            self.drop_name,
            None if self.histograms is None else np.repeat(self.histograms, steps, axis=1),
        )

    def merged(self, check: Check) -> Matrix:
        """Merges rows with the same labels. Raises QueryError if two have a sample at one step.

        A row that loses its name at the end of the query differs from one that keeps it. check: see
        interrupt.py.
        """
        check()
        if self.labels.is_unique():
            return self
        check()
        ids = self.labels.label_set_ids() * 2 + self.drop_name
        firsts, ids = np.unique(ids, return_index=True, return_inverse=True)[1:]
        count = len(firsts)
        values, present = np.zeros((count, self.steps)), np.zeros((count, self.steps), np.bool_)
        histograms = None
        if self.histograms is not None:
            histograms = np.full((count, self.steps), None, dtype=object)
        for row, target in checked(enumerate(ids.tolist()), check):
            where = self.present[row]
            if (present[target] & where).any():
                raise QueryError(DUPLICATE_LABELS)
            present[target] |= where
            values[target, where] = self.values[row, where]
            if histograms is not None and self.histograms is not None:
                histograms[target, where] = self.histograms[row, where]
        return Matrix(self.labels.take(firsts), values, present, self.drop_name[firsts], histograms)

    def without_dropped_names(self, check: Check) -> Matrix:
        """Drops the names that are marked, at the end of a query.

        Raises QueryError if two series with samples at one step then have the same labels.
        """
        dropped = Matrix(
            self.labels.without_metadata(self.drop_name),
            self.values,
            self.present,
            np.zeros(self.series, dtype=np.bool_),
            self.histograms,
        )
        check()
        if dropped.labels.is_unique():
            return dropped
        return dropped.select(dropped.has_samples()).merged(check)

    def metric(self, row: int) -> str:
        return self.labels.get(row, METRIC_NAME)


@dataclass(frozen=True, slots=True)
class RangeVector:
    """Series with samples, from a selector or a subquery."""

    labels: LabelTable
    samples: Samples
    drop_name: Bools


Value = Float64s | str | Matrix | RangeVector

ResultKind = Literal["scalar", "string", "vector", "matrix"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What a query took.

    samples_touched: samples read, each once for every window that it is in. series_selected: by
    all selectors together. elapsed_s: seconds from text to values, encoding not counted.
    peak_samples: samples and values in memory at once, as counted against max_samples.
    """

    samples_touched: int
    series_selected: int
    elapsed_s: float
    peak_samples: int = 0


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query.

    kind and value: "scalar" a float at times[0], "string" a str; "vector" a Matrix of one step;
    "matrix" a Matrix for a range query, a RangeVector for an instant one. order: rows of value
    that are in the answer, in its order. times: the steps, Unix ms. warnings and infos: rendered
    with their positions. check: whether who encodes the answer has to stop (interrupt.py).
    """

    kind: ResultKind
    value: float | str | Matrix | RangeVector
    order: Int64s
    times: Int64s
    warnings: list[str]
    infos: list[str]
    stats: Stats
    check: Check = never
