"""An obviously right evaluator: plain Python, one step at a time.

It is the oracle of test_differential.py. It shares the parser with the engine and nothing else
but the hash that limit_ratio chooses by.
"""

import math
import re
from dataclasses import dataclass, replace

from varve.promql.labels.label_hash import encoded, xxh64
from varve.promql.syntax import ast

LOOKBACK_MS = 300_000
DEFAULT_STEP_MS = 60_000
METADATA = ("__name__", "__type__", "__unit__")
STALE = object()
"""The value of a stale marker in the oracle's data."""


class Failure(Exception):
    """The query fails."""


class Unsure(Exception):
    """The oracle does not know."""


@dataclass(frozen=True)
class Sample:
    labels: tuple[tuple[str, str], ...]
    value: float
    drop: bool = False
    ts: int | None = None

    def get(self, name):
        return dict(self.labels).get(name, "")


@dataclass(frozen=True)
class Query:
    start: int
    end: int
    step: int


def labelled(labels):
    return tuple(sorted((n, v) for n, v in dict(labels).items() if v))


class Naive:
    """data: {labels: [(t_ms, value or STALE), ...]}, sorted by time."""

    def __init__(self, data):
        self.data = dict(sorted(data.items()))

    def instant(self, expr, t):
        return self.finish(self.eval(expr, t, Query(t, t, 0)))

    def range(self, expr, start, end, step):
        """{labels: {t: value}}; a scalar has no labels."""
        found = {}
        for t in range(start, end + 1, step):
            value = self.finish(self.eval(expr, t, Query(start, end, step)))
            samples = [Sample((), value)] if isinstance(value, float) else value
            for sample in samples:
                found.setdefault(sample.labels, {})[t] = sample.value
        return found

    def finish(self, value):
        if not isinstance(value, list):
            return value
        named = [
            replace(s, labels=tuple(p for p in s.labels if p[0] not in METADATA)) if s.drop else s
            for s in value
        ]
        return unique(named)

    def eval(self, expr, t, q):
        return _RULES[type(expr)](self, expr, t, q)

    def paren(self, expr, t, q):
        return self.eval(expr.expr, t, q)

    def literal(self, expr, _t, _q):
        return expr.value

    def unary(self, expr, t, q):
        value = self.eval(expr.expr, t, q)
        if expr.op == "+":
            return value
        if isinstance(value, float):
            return -value
        from tests.unit.promql.naive_histograms import negated

        return [replace(s, value=negated(s.value), drop=True) for s in value]

    def time_of(self, at, offset, t, q):
        if at is not None:
            t = {"start": q.start, "end": q.end}.get(at.at, at.at)
        return t - (round(offset.value * 1000) if offset is not None else 0)

    def matching(self, selector):
        for labels, points in self.data.items():
            values = dict(labels)
            if all(matches(m, values.get(m.name, "")) for m in selector.matchers):
                yield labels, points

    def selector(self, expr, t, q):
        at = self.time_of(expr.at, expr.offset, t, q)
        found = []
        for labels, points in self.matching(expr):
            within = [p for p in points if at - LOOKBACK_MS < p[0] <= at]
            if within and within[-1][1] is not STALE:
                found.append(Sample(labels, within[-1][1], ts=within[-1][0]))
        return found

    def windows(self, expr, t, q):
        """[(labels, points, drop)], window start, window end."""
        range_ms = round(expr.range.value * 1000)
        if isinstance(expr, ast.MatrixSelector):
            selector = expr.selector
            end = self.time_of(selector.at, selector.offset, t, q)
            found = []
            for labels, points in self.matching(selector):
                within = [p for p in points if end - range_ms < p[0] <= end and p[1] is not STALE]
                found.append((labels, within, False))
            return found, end - range_ms, end
        end = self.time_of(expr.at, expr.offset, t, q)
        step = DEFAULT_STEP_MS if expr.step is None else round(expr.step.value * 1000)
        first = (end - range_ms) // step * step + step
        series = {}
        for inner in range(first, end + 1, step):
            for s in self.eval(expr.expr, inner, q):
                series.setdefault((s.labels, s.drop), []).append((inner, s.value))
        found = [(labels, points, drop) for (labels, drop), points in series.items()]
        return found, end - range_ms, end

    def call(self, expr, t, q):
        from tests.unit.promql.naive_functions import FUNCTIONS, over_window

        source = next(
            (a for a in map(bare, expr.args) if isinstance(a, ast.MatrixSelector | ast.Subquery)),
            None,
        )
        if source is None:
            return FUNCTIONS[expr.func](self, expr, t, q)
        scalars = [self.eval(a, t, q) for a in expr.args if bare(a) is not source]
        series, start, end = self.windows(source, t, q)
        if expr.func == "absent_over_time":
            if any(points for _, points, _ in series):
                return []
            selector = source.selector if isinstance(source, ast.MatrixSelector) else None
            return [Sample(absent_labels(selector), 1.0)]
        keeps = expr.func in ("last_over_time", "first_over_time")
        found = []
        for labels, points, drop in series:
            if points:
                value = over_window(expr.func, points, start, end, t, scalars)
                if value is not None:
                    found.append(Sample(labels, value, drop or not keeps))
        return found

    def aggregate(self, expr, t, q):
        from tests.unit.promql import naive_aggregation

        parameter = None if expr.param is None else self.eval(expr.param, t, q)
        return naive_aggregation.aggregate(expr, self.eval(expr.expr, t, q), parameter)

    def binary(self, expr, t, q):
        from tests.unit.promql import naive_binary

        return naive_binary.binary(expr, self.eval(expr.lhs, t, q), self.eval(expr.rhs, t, q))


_RULES = {
    ast.Paren: Naive.paren,
    ast.NumberLiteral: Naive.literal,
    ast.StringLiteral: Naive.literal,
    ast.Unary: Naive.unary,
    ast.VectorSelector: Naive.selector,
    ast.Call: Naive.call,
    ast.Aggregate: Naive.aggregate,
    ast.Binary: Naive.binary,
}


def bare(expr):
    while isinstance(expr, ast.Paren):
        expr = expr.expr
    return expr


def unique(samples):
    if len({s.labels for s in samples}) < len(samples):
        raise Failure("vector cannot contain metrics with the same labelset")
    return samples


def matches(matcher, value):
    if matcher.op == "=":
        return value == matcher.value
    if matcher.op == "!=":
        return value != matcher.value
    found = re.fullmatch(matcher.value, value, re.DOTALL) is not None
    return found if matcher.op == "=~" else not found


def absent_labels(selector):
    matchers = [m for m in selector.matchers if m.name != "__name__"] if selector else []
    names = [m.name for m in matchers]
    return labelled({m.name: m.value for m in matchers if m.op == "=" and names.count(m.name) == 1})


def share_of(labels):
    """Where in [0, 1) the labels' hash lies."""
    return xxh64(encoded(labels)) / (2**64 - 1)


def divide(a, b):
    try:
        return a / b
    except ZeroDivisionError:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1, b)


def kahan(increment, total, c):
    t = total + increment
    if math.isinf(t):
        return t, 0.0
    if abs(total) >= abs(increment):
        return t, c + ((total - t) + increment)
    return t, c + ((increment - t) + total)


def quantile(q, values):
    if not values or math.isnan(q):
        return math.nan
    if q < 0:
        return -math.inf
    if q > 1:
        return math.inf
    ordered = sorted(values, key=lambda v: (not math.isnan(v), 0.0 if math.isnan(v) else v))
    rank = q * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight
