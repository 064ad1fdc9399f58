"""Compares answers of Prometheus' HTTP API with ours, and knows where they may differ.

An answer is the JSON body of /api/v1/query or /api/v1/query_range.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-8

_RENAMED = {"holt_winters": "double_exponential_smoothing"}

Answer = dict[str, Any]


@dataclass(frozen=True)
class KnownDifference:
    """A difference between Prometheus 2.42 and what we follow, Prometheus 3."""

    reason: str
    applies: Callable[[str, Answer, Answer], bool]


def _error(answer: Answer) -> str:
    return str(answer.get("error", ""))


_AT_AND_OFFSET = re.compile(r"timestamp\(\(*\w+(\{[^}]*\})? (offset \S+ @|@ \S+ offset)")

KNOWN_DIFFERENCES = (
    KnownDifference(
        "2.42 forgets the offset of timestamp(x @ .. offset ..)",
        lambda query, *_: _AT_AND_OFFSET.search(query) is not None,
    ),
    KnownDifference(
        "names go at the end of a query, so that series they tell apart do not clash before it",
        lambda query, expected, found: (
            "__name__=~" in query and "same labelset" in _error(expected) + _error(found)
        ),
    ),
    KnownDifference(
        "since 3.0 samples that a comparison drops count as matches, too",
        lambda _, expected, found: (
            "multiple matches" in _error(found) and "multiple matches" not in _error(expected)
        ),
    ),
)


def as_today(query: str) -> str:
    """The query with the names that Prometheus 3 has given to functions."""
    return re.sub("|".join(_RENAMED), lambda match: _RENAMED[match[0]], query)


def known_difference(query: str, expected: Answer, found: Answer) -> KnownDifference | None:
    """The one that allows these answers to differ, if there is one."""
    applying = (known for known in KNOWN_DIFFERENCES if known.applies(query, expected, found))
    return next(applying, None)


def difference(query: str, expected: Answer, found: Answer) -> str | None:
    """How our answer differs from Prometheus', None if it does not."""
    if found["status"] != expected["status"]:
        return f"{_error(expected) or 'an answer'}; {_error(found) or 'an answer'}"
    if expected["status"] == "error":
        kinds = [(body["errorType"], _kind(body["error"])) for body in (expected, found)]
        return None if kinds[0] == kinds[1] else f"{_error(expected)}; {_error(found)}"
    ordered = query.startswith("sort")
    return _unlike_data(expected["data"], found["data"], ordered=ordered)


def _kind(error: str) -> str:
    """An error without the series, positions and parameters that it names."""
    return re.sub(r"\{.*?\}|\[.*\]|\"<Item \d+>\" |\d+|invalid parameter \"query\": ", "", error)


def _unlike_data(expected: Any, found: Any, *, ordered: bool) -> str | None:
    if expected["resultType"] != found["resultType"]:
        return f"a {expected['resultType']} and a {found['resultType']}"
    if expected["resultType"] == "scalar":
        return _unlike_values([expected["result"]], [found["result"]])
    wanted, got = (
        {json.dumps(series["metric"], sort_keys=True): series for series in data["result"]}
        for data in (expected, found)
    )
    if wanted.keys() != got.keys():
        return f"only there: {wanted.keys() - got.keys()}, only here: {got.keys() - wanted.keys()}"
    if ordered and expected["resultType"] == "vector":
        # Equal values come in any order.
        orders = [[float(series["value"][1]) for series in side.values()] for side in (wanted, got)]
        if not all(map(_is_same, *orders)):
            return f"the order {list(wanted)} and {list(got)}"
    for key, series in wanted.items():
        points = [found.get("values") or [found["value"]] for found in (series, got[key])]
        if unlike := _unlike_values(*points):
            return f"{key}: {unlike}"
    return None


def _unlike_values(expected: Any, found: Any) -> str | None:
    if [t for t, _ in expected] != [t for t, _ in found]:
        return f"values at {[t for t, _ in expected]} and {[t for t, _ in found]}"
    for (t, wanted), (_, got) in zip(expected, found, strict=True):
        if not _is_same(float(wanted), float(got)):
            return f"at {t} {wanted} and {got}"
    return None


def _is_same(a: float, b: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1e-3)
