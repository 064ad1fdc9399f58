"""Reads the values of series as tests of rules write them.

    1 2 3           a value an interval
    1+2x3           1 3 5 7; 1-2x3 goes down, 1x3 is 1 1 1 1
    _ _x3 stale     no sample, three times none, the end of the series
    {{schema:0 count:2 sum:3 buckets:[2]}}+{{count:1 sum:1 buckets:[1]}}x2    native histograms

Source: Prometheus, promql/parser, ParseSeriesDesc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from varve.model.staleness import STALE_NAN
from varve.promql.histograms.native_histogram import (
    CUSTOM_BUCKETS,
    FloatHistogram,
    IncompatibleSchemasError,
    ResetHint,
    add,
    subtract,
)
from varve.promql.syntax.go_numbers import format_g
from varve.rules.instant import Value

MOST_VALUES: Final = 10_000_000
"""Of one series: what is more is taken for a mistake."""

_NUMBER: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[iI][nN][fF]|[nN][aA][nN]"
_FLOATS = re.compile(
    rf"(?P<first>[+-]?(?:{_NUMBER}))(?:(?P<step>[+-](?:{_NUMBER}))?x(?P<times>[0-9]+))?"
)
_BLANKS = re.compile(r"_(?:x(?P<times>[0-9]+))?")
_HISTOGRAMS = re.compile(
    r"\{\{(?P<first>[^{}]*)\}\}(?:(?:(?P<sign>[+-])\{\{(?P<step>[^{}]*)\}\})?x(?P<times>[0-9]+))?"
)
_ITEM = re.compile(r"(?:\{\{[^{}]*\}\}|[^\s{}])+")
_FIELD = re.compile(r"\s*(?P<name>\w+)\s*:\s*(?P<value>\[[^\]]*\]|[^\s\[\]]+)")
_NUMBERS: Final = {
    "sum": "sum",
    "count": "count",
    "z_bucket": "zero_count",
    "z_bucket_w": "zero_threshold",
}
_HINTS: Final[tuple[ResetHint, ...]] = ("unknown", "reset", "not_reset", "gauge")


def read_values(text: str) -> list[Value | None]:
    """A value for each interval; None where there is no sample. Raises ValueError."""
    values: list[Value | None] = []
    end = 0
    for match in _ITEM.finditer(text):
        between = text[end : match.start()]
        if between.strip() or (end and not between):
            raise ValueError(f"unexpected {between.strip()!r} in series values")
        end = match.end()
        for value in _item(match[0]):
            values.append(value)
            if len(values) > MOST_VALUES:
                raise ValueError(f"a series has more than {MOST_VALUES} values")
    if text[end:].strip():
        raise ValueError(f"unexpected {text[end:].strip()!r} in series values")
    return values


def _item(text: str) -> Iterator[Value | None]:
    if text == "stale":
        return iter([STALE_NAN])
    if blanks := _BLANKS.fullmatch(text):
        return islice(iter(lambda: None, 0), int(blanks["times"] or 1))
    if floats := _FLOATS.fullmatch(text):
        first, step = float(floats["first"]), float(floats["step"] or 0)
        return _floats(first, step, int(floats["times"] or 0))
    if histograms := _HISTOGRAMS.fullmatch(text):
        return _histograms(histograms)
    raise ValueError(f"unexpected {text!r} in series values")


def _floats(value: float, step: float, times: int) -> Iterator[float]:
    for _ in range(times + 1):
        yield value
        value += step


def _histograms(match: re.Match[str]) -> Iterator[FloatHistogram]:
    value = read_histogram(match["first"])
    yield value
    step = None if match["step"] is None else read_histogram(match["step"])
    for _ in range(int(match["times"] or 0)):
        if step is not None:
            try:
                combined = add(value, step) if match["sign"] == "+" else subtract(value, step)
            except IncompatibleSchemasError as error:
                raise ValueError(f"these histograms cannot be added: {error}") from None
            value = combined.histogram.with_hint(value.hint)
        yield value


def read_histogram(text: str) -> FloatHistogram:
    """A native histogram by what is between its braces. Raises ValueError."""
    fields: dict[str, str] = {}
    end = 0
    for match in _FIELD.finditer(text):
        if match.start() != end:
            break
        if match["name"] in fields:
            raise ValueError(f"duplicate key {match['name']!r} in histogram")
        fields[match["name"]] = match["value"]
        end = match.end()
    if text[end:].strip():
        raise ValueError(f"unexpected {text[end:].strip()!r} in a histogram")
    return _histogram(fields)


def _histogram(fields: dict[str, str]) -> FloatHistogram:
    numbers = {_NUMBERS[n]: float(fields.pop(n)) for n in _NUMBERS if n in fields}
    schema = int(fields.pop("schema", "0"))
    custom_values = tuple(_list(fields.pop("custom_values", "[]")))
    hint = fields.pop("counter_reset_hint", "unknown")
    if hint not in _HINTS:
        raise ValueError(f"unknown counter_reset_hint {hint}")
    sides = []
    for prefix in ("", "n_"):
        first = int(fields.pop(f"{prefix}offset", "0"))
        counts = _list(fields.pop(f"{prefix}buckets", "[]"))
        sides.append({i: count for i, count in enumerate(counts, first) if count})
    if fields:
        raise ValueError(f"unknown key {next(iter(fields))!r} in histogram")
    if custom_values:
        schema = CUSTOM_BUCKETS
    return FloatHistogram(
        schema,
        positive=sides[0],
        negative=sides[1],
        custom_values=custom_values,
        hint=hint,
        **numbers,
    )


def _list(text: str) -> list[float]:
    return [float(number) for number in text[1:-1].split()]


def write_histogram(histogram: FloatHistogram) -> str:
    """A native histogram as it is read."""
    parts = []
    if histogram.schema:
        parts.append(f"schema:{histogram.schema}")
    for name, attribute in (("count", "count"), ("sum", "sum"), *tuple(_NUMBERS.items())[2:]):
        if getattr(histogram, attribute):
            parts.append(f"{name}:{format_g(getattr(histogram, attribute))}")
    if histogram.custom_values:
        parts.append(f"custom_values:[{' '.join(map(format_g, histogram.custom_values))}]")
    if histogram.hint != "unknown":
        parts.append(f"counter_reset_hint:{histogram.hint}")
    for prefix, buckets in (("", histogram.positive), ("n_", histogram.negative)):
        used = [i for i, count in buckets.items() if count]
        if used:
            if min(used):
                parts.append(f"{prefix}offset:{min(used)}")
            counts = [format_g(buckets.get(i, 0.0)) for i in range(min(used), max(used) + 1)]
            parts.append(f"{prefix}buckets:[{' '.join(counts)}]")
    return f"{{{{{' '.join(parts)}}}}}"
