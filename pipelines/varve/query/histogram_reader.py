"""Native histograms beside the samples of a selection."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from varve.model.staleness import STALE_NAN
from varve.promql.histograms.chunks import as_read_back
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.stored_rows import histogram_of
from varve.promql.kernels.types import F64, I64
from varve.promql.storage import Samples
from varve.query.memory import Reservation
from varve.query.view import View

_ROW_BYTES = 2_000
"""What a histogram takes in memory, about."""

Points = list[tuple[int, float, FloatHistogram | None]]
"""Time, value and histogram; the value counts where there is no histogram."""


def most_histograms(view: View, ids: I64, start_ms: int, end_ms: int) -> int:
    """At most how many histograms there are of series in (start_ms, end_ms]. ids: sorted."""
    histograms = view.records.get("histograms")
    return 0 if histograms is None else histograms.most_rows(ids, start_ms, end_ms)


def with_histograms(
    samples: Samples,
    series_ids: I64,
    view: View,
    span: tuple[int, int],
    check: Callable[[], None],
    memory: Reservation,
) -> Samples:
    """The samples with the histograms of their series in the span (start, end], Unix ms.

    series_ids: of the samples' series, in their order. Where a series has both at one time, the
    histogram counts. check is called between files. memory: asked for what they take. Raises
    OSError, LimitError.
    """
    histograms_of = view.records.get("histograms")
    if histograms_of is None:
        return samples
    rows = histograms_of.rows(np.sort(series_ids), *span, check)
    if not rows.num_rows:
        return samples
    samples = samples.whole()
    memory.take(rows.num_rows * _ROW_BYTES)
    owners = rows.column("series_id").to_numpy()
    cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(owners)]
    place = {series_id: i for i, series_id in enumerate(series_ids.tolist())}
    begins, ends = samples.begins.copy(), samples.ends.copy()
    has_stale = samples.has_stale.copy()
    has_histograms = np.zeros(samples.series, np.bool_)
    times, values = [samples.ts], [samples.values]
    added: list[FloatHistogram | None] = []
    size = len(samples.ts)
    for begin, end in itertools.pairwise(cuts):
        check()
        i = place[int(owners[begin])]
        own = slice(samples.begins[i], samples.ends[i])
        points = _merged(samples.ts[own], samples.values[own], rows.slice(begin, end - begin))
        times.append(np.array([ts for ts, _, _ in points], np.int64))
        values.append(_values(points))
        added += _as_read_back(points)
        begins[i], ends[i] = size, size + len(points)
        size += len(points)
        has_histograms[i] = has_stale[i] = True
    histograms = np.full(size, None, dtype=object)
    first = len(samples.ts)
    for at, histogram in enumerate(added, first):
        histograms[at] = histogram
    return Samples(
        np.concatenate(times),
        np.concatenate(values),
        begins,
        ends,
        has_stale,
        histograms,
        has_histograms,
    )


def _merged(ts: I64, values: F64, rows: pa.Table) -> Points:
    """The samples and histograms of one series by time."""
    floats = {int(at): values[k : k + 1] for k, at in enumerate(ts)}
    points: dict[int, tuple[float, FloatHistogram | None]] = {
        at: (value[0], None) for at, value in floats.items()
    }
    for row in rows.to_pylist():
        histogram = histogram_of(row)
        points[row["ts"]] = (STALE_NAN if histogram is None else 0.0, histogram)
    return [(at, *points[at]) for at in sorted(points)]


def _values(points: Points) -> F64:
    """The column of values; the bits of stale markers stay."""
    column = np.empty(len(points))
    for k, (_, value, _) in enumerate(points):
        column[k : k + 1] = value
    return column


def _as_read_back(points: Points) -> list[FloatHistogram | None]:
    before: FloatHistogram | None = None
    found: list[FloatHistogram | None] = []
    for _, _, histogram in points:
        found.append(None if histogram is None else as_read_back(before, histogram))
        before = histogram
    return found
