"""Why a selector had no samples: its metric is unknown, no series has its labels, or they ended."""

from __future__ import annotations

import contextlib
import difflib
import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from varve.model.clock import utc_text
from varve.promql.errors import QueryError
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import METRIC_NAME
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.syntax.literals import quote
from varve.query.cold_files import next_to
from varve.query.reader import Reader
from varve.query.sample_columns import SampleColumns, SeriesRows

_NEAREST = 3
# Names that are compared letter by letter: those that share most pairs of letters.
_COMPARED = 200
# Characters of a name or value that is compared with others, and that an info shows.
_LONGEST = 200
# Matchers of a selector that an info shows.
_NAMED = 10
# Names and values among which the nearest are looked for: so many take a tenth of a second.
_MOST_NAMES = 50_000
# Files that are read to find where series end or begin, and row groups of them.
_READ = 32
_FIRST_MS, _LAST_MS = -(1 << 62), 1 << 62


def why_empty(reader: Reader) -> list[str]:
    """A sentence for each selection of a query that had no samples, as infos of its answer."""
    found = []
    for matchers, start_ms, end_ms in reader.empty_selections():
        # The answer stands without it, should storage or time not be enough to find out.
        with contextlib.suppress(QueryError):
            found.append(_why(reader, matchers, start_ms, end_ms))
    return [f"PromQL info: {text}" for text in dict.fromkeys(found)]


def _why(reader: Reader, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> str:
    index = reader.view.index
    name = next(
        (m for m in matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL and m.value), None
    )
    if name is not None and not index.find([name], reader.check).size:
        near = _nearest(name.value, _values(reader, METRIC_NAME, []) or [])
        return f"unknown metric {_quote(name.value)}{_or_near(near)}"
    of = "no series" if name is None else f"no series of {_quote(name.value)}"
    series = index.find(matchers, reader.check)
    if not series.size:
        others = [m for m in matchers if m is not name]
        given = [] if name is None else [name]
        for matcher in others:
            if not index.find([*given, matcher], reader.check).size:
                return f"{of} with {_text(matcher)}{_values_near(reader, given, matcher)}"
        return f"{of} with {_all_of(others)} together"
    label = "the series" if name is None else _quote(name.value)
    ids = np.sort(series.series_ids)
    if (ended_ms := _nearest_time(reader, ids, _FIRST_MS, start_ms, newest=True)) is not None:
        return f"{label} ended at {utc_text(ended_ms)}"
    if (began_ms := _nearest_time(reader, ids, end_ms, _LAST_MS, newest=False)) is not None:
        return f"{label} began at {utc_text(began_ms)}, later than asked for"
    return f"{label} has no samples near this time"


def _values_near(reader: Reader, given: Sequence[Matcher], matcher: Matcher) -> str:
    """Which values the label has that a matcher names, or which label it may have meant."""
    index = reader.view.index
    values = _values(reader, matcher.name, given)
    if values is None:
        return ""
    if values and matcher.op is MatchOp.EQUAL:
        return (
            f": {_cut(matcher.name)} is {_or(_nearest(matcher.value, values) or values[:_NEAREST])}"
        )
    if values:
        return ""
    names = index.label_names([given] if given else [], reader.check)
    labels = [n for n in names if n != METRIC_NAME]
    return f": they have no label {_cut(matcher.name)}{_or_near(_nearest(matcher.name, labels))}"


def _values(reader: Reader, name: str, given: Sequence[Matcher]) -> list[str] | None:
    """The values of a label, of the series that `given` selects; None if there may be very many."""
    index = reader.view.index
    column = index.labels.columns.get(name)
    if column is None:
        return []
    series = index.find(given, reader.check).size if given else index.size
    if min(series, len(column.interned.values)) > _MOST_NAMES:
        return None
    return index.label_values(name, [given] if given else [], reader.check)


def _nearest_time(
    reader: Reader, ids: I64, start_ms: int, end_ms: int, *, newest: bool
) -> int | None:
    """The last or the first time of a sample of the ids (ascending) in (start_ms, end_ms].

    None if there is none, or none in the files that are next to the bound.
    """
    times = [
        time
        for run in reader.view.head
        if (time := _bound_of(run, ids, start_ms, end_ms, newest=newest)) is not None
    ]
    best = (max if newest else min)(times, default=None)
    cold = next_to(reader.view, ids, start_ms, end_ms, reader.check, newest=newest, most=_READ)
    for reach_ms, run in cold:
        if best is not None and (reach_ms <= best if newest else reach_ms >= best):
            break
        time = _bound_of(run, ids, start_ms, end_ms, newest=newest)
        if time is not None and (best is None or (time > best if newest else time < best)):
            best = time
    return best


def _bound_of(
    run: SampleColumns, ids: I64, start_ms: int, end_ms: int, *, newest: bool
) -> int | None:
    found = SeriesRows.empty(len(ids))
    if not run.find(ids, start_ms, end_ms, found):
        return None
    low, high = found.low, found.high
    there = high > low
    return int(run.ts[high[there] - 1].max() if newest else run.ts[low[there]].min())


def _nearest(wanted: str, names: Sequence[str]) -> list[str]:
    """The names most like what was wanted, the nearest first; none if there are very many."""
    if len(wanted) > _LONGEST or len(names) > _MOST_NAMES:
        return []
    pairs = {wanted[i : i + 2] for i in range(len(wanted) - 1)}

    def shared(name: str) -> float:
        return sum(pair in name for pair in pairs) / (len(wanted) + len(name))

    pool = heapq.nlargest(_COMPARED, names, key=shared)
    return difflib.get_close_matches(wanted, pool, _NEAREST, cutoff=0.6)


def _or_near(near: Sequence[str]) -> str:
    return f", but there is {_or(near)}" if near else ""


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(_quoted(names[:-1])), *_quoted(names[-1:]))))


def _quoted(names: Sequence[str]) -> Iterator[str]:
    return map(_quote, names)


def _text(matcher: Matcher) -> str:
    return f"{_cut(matcher.name)}{matcher.op.value}{_quote(matcher.value)}"


def _all_of(matchers: Sequence[Matcher]) -> str:
    more = len(matchers) - _NAMED
    return ", ".join(map(_text, matchers[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def _quote(text: str) -> str:
    return quote(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
