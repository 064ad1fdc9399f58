"""Native histograms as rows of the table histograms: schemas/tables/histograms.sql."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from varve.promql.histograms.native_histogram import Buckets, FloatHistogram, ResetHint

COLUMNS: Final = (
    "schema",
    "count",
    "sum",
    "zero_threshold",
    "zero_count",
    "positive",
    "negative",
    "custom_values",
    "reset_hint",
)
"""Those behind series_id and ts."""

_STALE: Final = dict.fromkeys(COLUMNS)


def row_of(histogram: FloatHistogram | None) -> dict[str, Any]:
    """The columns of a histogram; of None, those of a staleness marker."""
    if histogram is None:
        return dict(_STALE)
    return {
        "schema": histogram.schema,
        "count": histogram.count,
        "sum": histogram.sum,
        "zero_threshold": histogram.zero_threshold,
        "zero_count": histogram.zero_count,
        "positive": _spans(histogram.positive),
        "negative": _spans(histogram.negative),
        "custom_values": list(histogram.custom_values),
        "reset_hint": histogram.hint,
    }


def histogram_of(row: Mapping[str, Any]) -> FloatHistogram | None:
    """The histogram of a row; None for a staleness marker."""
    if row["schema"] is None:
        return None
    return FloatHistogram(
        row["schema"],
        row["count"],
        row["sum"],
        row["zero_threshold"],
        row["zero_count"],
        _buckets(row["positive"]),
        _buckets(row["negative"]),
        tuple(row["custom_values"]),
        cast(ResetHint, row["reset_hint"]),
    )


def _spans(buckets: Buckets) -> dict[str, list[Any]]:
    offsets: list[int] = []
    lengths: list[int] = []
    behind = None
    indices = sorted(i for i, count in buckets.items() if count != 0)
    for index in indices:
        if behind is not None and index == behind:
            lengths[-1] += 1
        else:
            offsets.append(index if behind is None else index - behind)
            lengths.append(1)
        behind = index + 1
    return {"offsets": offsets, "lengths": lengths, "counts": [buckets[i] for i in indices]}


def _buckets(side: Mapping[str, Any]) -> Buckets:
    found: dict[int, float] = {}
    index, counts = 0, iter(side["counts"])
    for offset, length in zip(side["offsets"], side["lengths"], strict=True):
        index += offset
        for _ in range(length):
            count = next(counts)
            if count != 0:
                found[index] = count
            index += 1
    return found
