"""What rows of the record tables must be, beside the types of their columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

CUSTOM_BUCKETS: Final = -53
MOST_BUCKETS: Final = 100_000
_SCHEMAS: Final = range(-4, 9)
_HINTS: Final = frozenset({"unknown", "reset", "not_reset", "gauge"})
_SIDES: Final = ("positive", "negative")


def why_invalid(table: str, rest: pa.Table) -> str:
    """What is wrong with the first row that is no row of the table; "" if all are. rest: the
    columns behind ts.
    """
    judge = _why_no_histogram if table == "histograms" else _why_no_exemplar
    return next((why for row in rest.to_pylist() if (why := judge(row))), "")


def _why_no_exemplar(row: Mapping[str, Any]) -> str:
    if row["value"] is None or row["labels"] is None:
        return "value and labels are never null"
    names = [name for name, _ in row["labels"]]
    if len(set(names)) < len(names):
        return "a label comes twice"
    if any(value is None for _, value in row["labels"]):
        return "a label has no value"
    return ""


def _why_no_histogram(row: Mapping[str, Any]) -> str:
    schema = row["schema"]
    if schema is None:
        others = (name for name in row if name != "schema" and row[name] is not None)
        return next((f"{name} of a staleness marker is not null" for name in others), "")
    if schema not in _SCHEMAS and schema != CUSTOM_BUCKETS:
        return f"schema {schema} is none"
    if missing := next((name for name in row if row[name] is None), None):
        return f"{missing} is null"
    if row["reset_hint"] not in _HINTS:
        return f"reset_hint {row['reset_hint'][:20]!r} is none of {', '.join(sorted(_HINTS))}"
    if negative := next((n for n in ("count", "zero_count") if row[n] < 0), None):
        return f"{negative} is negative"
    for side in _SIDES:
        if why := _why_no_buckets(row[side]):
            return f"{side}: {why}"
    bounds = row["custom_values"]
    if schema != CUSTOM_BUCKETS:
        return f"custom_values belong to schema {CUSTOM_BUCKETS}" if bounds else ""
    if any(bound is None or math.isnan(bound) for bound in bounds) or any(
        not a < b for a, b in itertools.pairwise(bounds)
    ):
        return "custom_values do not ascend"
    return ""


def _why_no_buckets(side: Mapping[str, Any]) -> str:
    offsets, lengths, counts = side["offsets"], side["lengths"], side["counts"]
    if offsets is None or lengths is None or counts is None:
        return "a list is null"
    if any(None in numbers for numbers in (offsets, lengths, counts)):
        return "a number is null"
    if len(offsets) != len(lengths):
        return f"{len(offsets)} offsets and {len(lengths)} lengths"
    if any(length < 0 for length in lengths) or any(offset < 0 for offset in offsets[1:]):
        return "spans overlap"
    if sum(lengths) != len(counts):
        return f"spans of {sum(lengths)} buckets, and {len(counts)} counts"
    if len(counts) > MOST_BUCKETS:
        return f"over {MOST_BUCKETS:,} buckets"
    if any(count < 0 for count in counts):
        return "a count is negative"
    return ""
