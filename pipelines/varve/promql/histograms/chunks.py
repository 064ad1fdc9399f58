"""How a native histogram is read back from a store, by the one stored before it.

A chunk of histograms begins where a counter was reset or the layout changed. Within a chunk there
is no reset, and of its first histogram nothing is known. Source: Prometheus, tsdb.
"""

from __future__ import annotations

from varve.promql.histograms.native_histogram import FloatHistogram, detects_reset


def as_read_back(before: FloatHistogram | None, histogram: FloatHistogram) -> FloatHistogram:
    """`histogram` with the hint that a reader sees. before: the one in front of it in its series,
    None if that is none or a float.
    """
    if histogram.hint == "gauge":
        return histogram
    follows = before is not None and _is_one_chunk(before, histogram)
    return histogram.with_hint("not_reset" if follows else "unknown")


def _is_one_chunk(before: FloatHistogram, histogram: FloatHistogram) -> bool:
    return not (
        histogram.hint == "reset"
        or before.hint == "gauge"
        or before.schema != histogram.schema
        or before.zero_threshold != histogram.zero_threshold
        or before.custom_values != histogram.custom_values
        or detects_reset(histogram.with_hint("unknown"), before)
    )
