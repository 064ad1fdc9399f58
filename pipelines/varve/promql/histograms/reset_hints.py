"""What a store of native histograms tells about counter resets when it is read.

Source: Prometheus, tsdb: a chunk of histograms begins where a counter was reset or the layout
changed; within it there is no reset, and of its first histogram nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from varve.promql.histograms.native_histogram import FloatHistogram, detects_reset


def stored(histograms: Iterable[FloatHistogram | None]) -> list[FloatHistogram | None]:
    """The samples of one series as they are read back; None is a float sample."""
    read: list[FloatHistogram | None] = []
    before: FloatHistogram | None = None
    for histogram in histograms:
        if histogram is None:
            before = None
            read.append(None)
            continue
        if histogram.hint != "gauge":
            follows = before is not None and _is_one_chunk(before, histogram)
            before = histogram
            read.append(histogram.with_hint("not_reset" if follows else "unknown"))
        else:
            before = histogram
            read.append(histogram)
    return read


def _is_one_chunk(before: FloatHistogram, histogram: FloatHistogram) -> bool:
    return not (
        histogram.hint == "reset"
        or before.hint == "gauge"
        or before.schema != histogram.schema
        or before.zero_threshold != histogram.zero_threshold
        or before.custom_values != histogram.custom_values
        or detects_reset(histogram.with_hint("unknown"), before)
    )
