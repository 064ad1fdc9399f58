"""The windows of a range function, and the samples of one series in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.model.staleness import is_stale
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.selection import select_windows, selector_times, subquery
from varve.promql.evaluation.values import Float64s, Int64s, RangeVector, Scalar, Steps
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.label_table import METRIC_NAME
from varve.promql.plan.durations import length_ms, offset_ms
from varve.promql.plan.nodes import RangeSelect, SubquerySelect
from varve.promql.storage import Elsewhere, Rollups, Selection

_NO_PARAMETER = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Windows:
    """(times - range_ms, times], one window for each of `steps`.

    rollups: rows that stand in for the samples of some of the series, which have none then.
    elsewhere: where the samples are, if they are not here.
    """

    series: RangeVector
    times: Int64s
    range_ms: int
    steps: Steps
    rollups: Rollups | None = None
    elsewhere: Elsewhere | None = None

    @property
    def selection(self) -> Selection:
        """What the windows are of."""
        samples = self.series.samples
        return Selection(self.series.labels, samples, (), self.rollups, self.elsewhere)

    def metric(self, row: int) -> str:
        return self.series.labels.get(row, METRIC_NAME)


@dataclass(frozen=True, slots=True)
class Points:
    """The samples of one series by time, less stale markers; floats and histograms are kept apart.

    Start timestamps are 0 where they are unknown.
    """

    ts: Int64s
    values: Float64s
    start_ts: Int64s
    histogram_ts: Int64s
    histograms: Sequence[FloatHistogram]
    histogram_start_ts: Int64s

    def within(self, start_ms: int, end_ms: int) -> Points:
        """The samples in (start_ms, end_ms]."""
        low, high = np.searchsorted(self.ts, (start_ms, end_ms), side="right")
        first, last = np.searchsorted(self.histogram_ts, (start_ms, end_ms), side="right")
        return Points(
            self.ts[low:high],
            self.values[low:high],
            self.start_ts[low:high],
            self.histogram_ts[first:last],
            self.histograms[first:last],
            self.histogram_start_ts[first:last],
        )

    def __len__(self) -> int:
        return len(self.ts) + len(self.histogram_ts)


def windows_of(
    ev: Evaluation,
    source: RangeSelect | SubquerySelect,
    steps: Steps,
    function: str,
    *,
    tiered: bool = False,
    before_ms: int = 0,
    after_ms: int = 0,
    into_groups: bool = False,
) -> Windows:
    """The samples under a range function, and its windows.

    tiered: rows of rollups may stand in for them. before_ms, after_ms: how far beyond the windows a
    selector's samples are needed. into_groups is as in select_windows.
    """
    range_ms = length_ms(source.range, ev.query)
    if isinstance(source, SubquerySelect):
        times = selector_times(ev, source.at, offset_ms(source.offset, ev.query), steps)
        return Windows(subquery(ev, source, steps), times, range_ms, steps)
    selection, times = select_windows(
        ev,
        source.selector,
        steps,
        range_ms,
        function=function,
        window_function=function if tiered else None,
        before_ms=before_ms,
        after_ms=after_ms,
        into_groups=into_groups,
        # What is checked of smoothing looks at the samples themselves.
        leaf=tiered and function != "double_exponential_smoothing",
    )
    no_drop = np.zeros(selection.samples.series, dtype=np.bool_)
    series = RangeVector(selection.labels, selection.samples, no_drop)
    return Windows(series, times, range_ms, steps, selection.rollups, selection.elsewhere)


def kernel_parameters(parameters: Sequence[Scalar]) -> tuple[Scalar, Scalar]:
    """The scalar arguments of a function, two of them, as kernels take them."""
    padded = [*parameters, _NO_PARAMETER, _NO_PARAMETER]
    return padded[0], padded[1]


def points_of(series: RangeVector, row: int) -> Points:
    """All samples of one series."""
    samples = series.samples
    span = slice(int(samples.begins[row]), int(samples.ends[row]))
    ts, values = samples.ts[span], samples.values[span]
    start_ts = np.zeros(len(ts), np.int64) if samples.start_ts is None else samples.start_ts[span]
    live = ~is_stale(values)
    if samples.histograms is None:
        none = np.zeros(0, dtype=np.int64)
        return Points(ts[live], values[live], start_ts[live], none, (), none)
    column = samples.histograms[span]
    is_histogram = column != None  # noqa: E711 - elementwise
    floats = live & ~is_histogram
    return Points(
        ts[floats],
        values[floats],
        start_ts[floats],
        ts[is_histogram],
        column[is_histogram].tolist(),
        start_ts[is_histogram],
    )
