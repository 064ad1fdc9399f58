"""Random data and queries on which Prometheus 2.42 and 3 agree, so that either may be the oracle.

What has changed between them is kept away from, and answers.py excepts what cannot be:

- Windows and lookbacks have lost their left ends: samples lie at .377 of a second, evaluations at
  .5, the steps of subqueries at whole seconds, and no subquery is in another.
- A counter near zero is extrapolated otherwise: counters are far from it.
- Moments of infinities, atan2 keeping the name, predict_linear with @.
- Offsets of 0s were refused, and so were durations that are computed.
"""

from __future__ import annotations

import math
from random import Random

BASE_MS = 1_700_000_000_000
SPAN_S = 3_600
STEP_S = 30

Labels = tuple[tuple[str, str], ...]
Data = dict[Labels, list[tuple[int, float | None]]]

_WILD = [math.nan, math.inf, -math.inf, 0.0, 1.0, -1.5, 1e300, -1e-300, 1e-7, 123456789.0, 3e21]
_BOUNDS = ["0.1", "0.5", "1", "5", "+Inf"]

_OVER_TIME = ["sum", "avg", "min", "max", "count", "last", "present", "stddev", "stdvar"]
_OF_ANY = ["min", "max", "count", "last", "sum", "present"]
_ELEMENTWISE = [
    "abs",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "deg",
    "rad",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
]
_PERIODIC = ["sin", "cos", "tan"]
_CALENDAR = [
    "year",
    "month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
]
_OPERATORS = ["+", "-", "*", "/", "^", "==", "!=", "<", ">", "<=", ">=", "== bool", "< bool"]
_GROUPINGS = ["", " by (job)", " by (instance)", " without (instance)", " by (job, zone)"]
_MATCHINGS = [
    "",
    " on(instance)",
    " on(job)",
    " on()",
    " ignoring(zone)",
    " ignoring(zone, job)",
    " on(job) group_left",
    " on(instance) group_right",
    " on(job, instance) group_left(zone)",
]
_NUMBERS = ["0", "1", "2", "0.5", "-1", "10", "1e3", "3.3", "-0.1"]


def random_data(r: Random) -> Data:
    """c_total: counters far from zero; g: gauges; w: anything; b_bucket: classic histograms."""
    data: Data = {}
    for i in range(5):
        key = _labels("c_total", instance=str(i), job="xy"[i % 2])
        data[key] = _with_ends(r, _counter(r))
    for i in range(6):
        zone = "eu" if i < 3 else "us"
        values = ((t, round(r.gauss(10, 20), r.randrange(6)) + i / 1000) for t in _times(r, 20))
        data[_labels("g", instance=str(i), job="xy"[i % 2], zone=zone)] = _with_ends(
            r, list(values)
        )
    for i in range(4):
        data[_labels("w", instance=str(i))] = [(t, r.choice(_WILD)) for t in _times(r, 30)]
    for i in range(2):
        totals = [1000.0 * (place + 1) for place in range(len(_BOUNDS))]
        columns: list[list[tuple[int, float | None]]] = [[] for _ in _BOUNDS]
        for t in _times(r, 15):
            observed = r.randrange(len(_BOUNDS))
            for place, column in enumerate(columns):
                totals[place] += place >= observed
                column.append((t, totals[place]))
        for bound, column in zip(_BOUNDS, columns, strict=True):
            data[_labels("b_bucket", instance=str(i), le=bound)] = column
    return data


def _labels(name: str, **rest: str) -> Labels:
    return tuple(sorted({"__name__": name, **rest}.items()))


def _times(r: Random, every_s: int) -> list[int]:
    """Mostly every_s apart, with gaps."""
    found, t = [], BASE_MS + r.randrange(30) * 1000 + 377
    while t < BASE_MS + SPAN_S * 1000:
        found.append(t)
        t += every_s * 1000 * (r.randrange(2, 20) if r.random() < 0.07 else 1)
    return found


def _counter(r: Random) -> list[tuple[int, float]]:
    value, found = r.uniform(1e4, 2e4), []
    for t in _times(r, 15):
        # A counter that begins again with less than it had before is not near zero.
        value = value * r.uniform(0.3, 0.5) if r.random() < 0.02 else value + r.uniform(0, 30)
        found.append((t, value))
    return found


def _with_ends(r: Random, points: list[tuple[int, float]]) -> list[tuple[int, float | None]]:
    found: list[tuple[int, float | None]] = []
    for t, value in points:
        found.append((t, value))
        if r.random() < 0.03:
            found.append((t + 1000, None))
    return found


def random_time_s(r: Random) -> float:
    return BASE_MS / 1000 + r.randrange(SPAN_S) + 0.5


def random_request(r: Random) -> tuple[str, dict[str, float]]:
    """The path of an instant or of a range query, and its times in seconds."""
    at = random_time_s(r)
    if r.random() < 0.5:
        return "/api/v1/query", {"time": at}
    end = at + STEP_S * r.randrange(1, 20)
    return "/api/v1/query_range", {"start": at, "end": end, "step": STEP_S}


class Queries:
    """An endless supply of queries."""

    def __init__(self, r: Random) -> None:
        self._r = r

    def next(self) -> str:
        return self._vector(3)

    def _pick(self, *texts: str) -> str:
        return self._r.choice(texts)

    def _duration(self) -> str:
        return self._pick("30s", "1m", "90s", "2m", "5m", "7m", "15m")

    def _modifiers(self) -> str:
        r, text = self._r, ""
        if r.random() < 0.12:
            text += f" offset {self._pick('', '-')}{self._pick(self._duration(), '1m30s')}"
        if r.random() < 0.1:
            text += f" @ {random_time_s(r)}"
        elif r.random() < 0.05:
            text += self._pick(" @ start()", " @ end()")
        return text

    def _selector(self, *names: str) -> str:
        matcher = ""
        if self._r.random() < 0.3:
            matcher = self._pick(
                '{instance="1"}',
                '{instance!="0"}',
                '{instance=~"1|2|3"}',
                '{instance!~"[12]"}',
                '{job="x"}',
                '{job=~".+"}',
                '{nope=""}',
                '{instance=~".*"}',
                '{instance=~"0|2",job!="y"}',
                '{instance=~".+",instance!="1"}',
                '{job=""}',
                '{zone=~"eu|"}',
                '{instance=~"(?i:[A-Z0-1])"}',
            )
        if self._r.random() < 0.03 and not names:
            return '{__name__=~"c_total|g"}'
        return self._pick(*(names or ("c_total", "g"))) + matcher

    def _range(self, *names: str) -> str:
        if not names and self._r.random() < 0.15:
            return f"({self._tame(1)}){self._subquery()}"
        return self._plain_range(*names)

    def _plain_range(self, *names: str) -> str:
        return f"{self._selector(*names)}[{self._duration()}]{self._modifiers()}"

    def _subquery(self) -> str:
        step = self._pick("7s", "11s", "30s", "1m")
        return f"[{self._duration()}:{step}]{self._modifiers()}"

    def _scalar(self) -> str:
        return self._pick(
            self._pick(*_NUMBERS),
            "time()",
            "pi()",
            f"scalar({self._selector('g')})",
            f"({self._pick(*_NUMBERS)} + {self._pick(*_NUMBERS)})",
            f"scalar(sum({self._selector()}))",
        )

    def _tame(self, depth: int) -> str:
        """A vector of finite values and no wonders."""
        if depth <= 0 or self._r.random() < 0.5:
            return self._selector() + self._modifiers()
        return f"{self._pick('abs', 'ceil', 'floor')}({self._tame(depth - 1)})"

    def _computed(self, depth: int) -> str:
        """A vector of finite values, almost correct to the last digits; it has no subqueries."""
        return self._pick(
            self._tame(depth),
            f"rate({self._plain_range('c_total')})",
            f"sum{self._pick(*_GROUPINGS)} ({self._tame(depth)})",
            f"{self._tame(depth)} * {self._pick('2', '0.3', '-1')}",
            f"avg_over_time({self._plain_range()})",
        )

    def _vector(self, depth: int) -> str:
        if depth <= 0 or self._r.random() < 0.1:
            return self._selector("c_total", "g", "w") + self._modifiers()
        make = self._r.choice(
            [
                self._of_window,
                self._of_window,
                self._of_values,
                self._of_values,
                self._aggregation,
                self._with_scalar,
                self._with_vector,
                self._other,
            ]
        )
        return make(depth - 1)

    def _of_window(self, depth: int) -> str:
        q = self._pick("0.3", "0.9", "0", "1", "-1", "2")
        counter = self._pick("rate", "increase", "irate", "resets")
        return self._pick(
            f"{counter}({self._range('c_total')})",
            f"{self._pick('delta', 'idelta', 'changes')}({self._range()})",
            f"{self._pick(*_OVER_TIME)}_over_time({self._range()})",
            f"{self._pick(*_OF_ANY)}_over_time({self._range('w')})",
            f"quantile_over_time({q}, {self._range()})",
            f"deriv({self._range('g')})",
            f"predict_linear({self._selector('g')}[{self._duration()}] offset 1m, 600)",
            f"holt_winters({self._range()}, 0.3, 0.6)",
            f"absent_over_time({self._range()})",
            # Of anything else a last digit may make a change or a reset.
            f"{self._pick(*_OF_ANY, 'avg')}_over_time(({self._computed(depth)}){self._subquery()})",
            f"quantile_over_time({q}, ({self._computed(depth)}){self._subquery()})",
        )

    def _of_values(self, depth: int) -> str:
        low, high = self._pick(*_NUMBERS), self._pick(*_NUMBERS, "NaN", "Inf", "-Inf")
        bound = self._pick("clamp_min", "clamp_max")
        return self._pick(
            f"{self._pick(*_ELEMENTWISE)}({self._vector(depth)})",
            # The last digit of a power may be a whole turn.
            f"{self._pick(*_PERIODIC)}({self._computed(depth)})",
            f"{self._pick(*_CALENDAR)}({self._vector(depth)})",
            # The last digit of a computed value may round it the other way.
            f"{self._pick('round', 'ceil', 'floor')}({self._selector('c_total', 'g', 'w')})",
            f"clamp({self._vector(depth)}, {low}, {high})",
            f"{bound}({self._vector(depth)}, {high})",
            f"round({self._tame(depth)}, {low})",
            f"{bound}({self._vector(depth)}, {self._scalar()})",
            f"-{self._vector(depth)}",
            f"({self._selector('g', 'w')} % {low})",  # of anything else a last digit may be all
        )

    def _aggregation(self, depth: int) -> str:
        by, k = self._pick(*_GROUPINGS), self._pick("1", "2", "3")
        q = self._pick("0.5", "0.9", "0", "-1", "2")
        op = self._pick("sum", "avg", "min", "max", "count", "group")
        return self._pick(
            f"{op}{by} ({self._vector(depth)})",
            f"{self._pick('stddev', 'stdvar')}{by} ({self._tame(depth)})",
            f"topk{by} ({k}, {self._selector('g')}{self._modifiers()})",
            f"bottomk{by} ({k}, {self._selector('g')}{self._modifiers()})",
            f"quantile{by} ({q}, {self._computed(depth)})",
            f'count_values{by} ("v", {self._selector("w", "g")})',
        )

    def _with_scalar(self, depth: int) -> str:
        vector, scalar, op = self._vector(depth), self._scalar(), self._pick(*_OPERATORS)
        return self._pick(f"{vector} {op} {scalar}", f"{scalar} {op} {vector}")

    def _with_vector(self, depth: int) -> str:
        left, right = (
            self._pick(self._selector("c_total", "g", "w"), self._vector(depth)) for _ in range(2)
        )
        if self._r.random() < 0.3:
            matching = self._pick("", " on(instance)", " on(job)", " ignoring(zone)", " on()")
            return f"{left} {self._pick('and', 'or', 'unless')}{matching} {right}"
        return f"{left} {self._pick(*_OPERATORS)}{self._pick(*_MATCHINGS)} {right}"

    def _other(self, depth: int) -> str:
        q = self._pick("0.5", "0.9", "0", "1", "0.01", "-1", "2")
        return self._pick(
            f"histogram_quantile({q}, b_bucket)",
            f"histogram_quantile({q}, sum by (le) (rate(b_bucket[5m])))",
            f"histogram_quantile({q}, increase(b_bucket[{self._duration()}]{self._modifiers()}))",
            f"absent({self._vector(depth)})",
            f"scalar({self._vector(depth)})",
            f"time() {self._pick(*_OPERATORS[:4])} {self._scalar()}",
            f"absent({self._selector()}{self._modifiers()})",
            f"timestamp({self._selector()} offset {self._duration()})",
            f"timestamp({self._vector(depth)})",
            f"vector({self._scalar()})",
            f"{self._pick('sort', 'sort_desc')}({self._vector(depth)})",
            f'label_replace({self._vector(depth)}, "n", "$1-x", "instance", "(.*)[12]")',
            f'label_replace({self._vector(depth)}, "instance", "$2$1", "instance", "(.)(.?)")',
            f'label_replace({self._vector(depth)}, "instance", "", "job", "x")',
            f'label_join({self._vector(depth)}, "n", "/", "job", "instance")',
            f"({self._vector(depth)})",
        )
