"""Random data and random queries over it, for test_differential.py."""

import math
import random

from tests.unit.promql.naive import STALE, labelled
from tests.unit.promql.naive_histograms import FLOATS as OF_HISTOGRAMS
from tests.unit.promql.naive_histograms import Histogram
from varve.promql.function_table import AGGREGATIONS as TABLE
from varve.promql.function_table import FUNCTIONS
from varve.promql.signatures import Family

RANGE_FUNCTIONS = [name for name, entry in FUNCTIONS.items() if entry.kernel is not None]
ELEMENTWISE = [
    name
    for name, entry in FUNCTIONS.items()
    if entry.family is Family.VALUES and len(entry.args) == 1
]
WELL_CONDITIONED = ("abs", "sgn", "sqrt", "deg", "rad")
CALENDAR = [n for n, entry in FUNCTIONS.items() if entry.family is Family.TIMES and entry.variadic]
AGGREGATIONS = [name for name, entry in TABLE.items() if entry.parameter is None]
PARAMETRIC = [name for name, entry in TABLE.items() if entry.parameter is not None]
OPERATORS = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    "==",
    "!=",
    ">",
    "<",
    ">=",
    "<=",
    "and",
    "or",
    "unless",
]
OTHERS = [
    "clamp",
    "clamp_min",
    "clamp_max",
    "round",
    "scalar",
    "vector",
    "absent",
    "time",
    "pi",
    "timestamp",
    "label_replace",
    "label_join",
    "sort",
    "sort_desc",
    "sort_by_label",
    "sort_by_label_desc",
    "histogram_quantile",
    "histogram_quantiles",
    "histogram_fraction",
    "start_timestamp",
    *OF_HISTOGRAMS,
    "max_of",
    "min_of",
    "start",
    "end",
    "step",
    "range",
]

BUCKETS = ("h_bucket", "rate(h_bucket[5m])", "sum by (le, job) (h_bucket)")
SPAN_MS = 1_200_000
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, -1e300)


def random_data(r):
    """Counters with resets, gauges, buckets; gaps, stale markers, jitter, special values."""
    data = {}
    for name in ("a_total", "b", "c", "h_bucket", "n"):
        for job in ("x", "y"):
            for instance in ("0", "1", "2"):
                if r.random() < 0.25:
                    continue
                labels = {"__name__": name, "job": job, "instance": instance}
                if name == "h_bucket":
                    _buckets(r, data, labels)
                elif name == "n":
                    data[labelled(labels)] = _histograms(r)
                else:
                    data[labelled(labels)] = _points(r, counter=name == "a_total")
    return {labels: points for labels, points in data.items() if points}


def _times(r):
    t, interval = r.randrange(-20_000, 30_000), r.choice((7_000, 15_000, 30_000, 61_000))
    while t < SPAN_MS:
        if r.random() < 0.9:
            yield t
        elif r.random() < 0.2:
            t += 400_000
        t += interval + r.choice((0, 0, 1, -3, 500))


def _points(r, counter):
    points, value = [], float(r.randrange(10))
    for t in _times(r):
        if r.random() < 0.04:
            points.append((t, STALE))
            continue
        if counter:
            value = 0.0 if r.random() < 0.05 else value + r.choice((0.0, 1.0, 2.5, 100.0))
            points.append((t, value))
        elif r.random() < 0.05:
            points.append((t, r.choice(SPECIAL)))
        else:
            points.append((t, r.choice((float(r.randrange(-3, 4)), r.uniform(-50, 50)))))
    return points


def _histograms(r):
    """A counter of native histograms, exponential or with custom buckets, with resets."""
    points, counts, zero, total = [], {}, 0.0, 0.0
    bounds = r.choice(((0.5, 1.0, 4.0), (1.0, 4.0, 8.0))) if r.random() < 0.3 else None
    schemas = (0,) if bounds else (0, 1, 2)
    schema = r.choice(schemas)
    sides = (1,) if bounds or r.random() < 0.6 else (1, -1)
    for t in _times(r):
        if r.random() < 0.04:
            points.append((t, STALE))
            continue
        if r.random() < 0.06:
            counts, zero, total = {}, 0.0, 0.0
            schema = r.choice(schemas)
        for _ in range(r.randrange(4)):
            key = r.choice(sides), r.randrange(0, 4 if bounds else 7)
            counts[key] = counts.get(key, 0.0) + r.choice((1.0, 2.0, 5.0))
            total += key[0] * key[1]
        zero += 0.0 if bounds else r.choice((0.0, 0.0, 1.0))
        positive, negative = (
            tuple(sorted((i, n) for (s, i), n in counts.items() if s == side)) for side in (1, -1)
        )
        count = zero + sum(counts.values())
        points.append((t, Histogram(schema, total, 0.001, zero, positive, negative, bounds, count)))
    return points


def _buckets(r, data, labels):
    times = list(_times(r))
    bounds = ("0.1", "1", "5", "+Inf") if r.random() < 0.9 else ("0.1", "1")
    totals = dict.fromkeys(bounds, 0.0)
    series = {bound: [] for bound in bounds}
    for t in times:
        grown = 0.0
        for bound in bounds:
            grown += r.choice((0.0, 1.0, 3.0))
            totals[bound] += grown
            if r.random() < 0.97:
                series[bound].append((t, totals[bound]))
    for bound, points in series.items():
        data[labelled({**labels, "le": bound})] = points


class Generator:
    """Random query texts; `used` counts the functions and operators in them."""

    def __init__(self, r, used):
        self.r = r
        self.used = used

    def query(self):
        return (
            self.vector(self.r.choice((1, 2, 2, 3))) if self.r.random() < 0.93 else self.scalar(2)
        )

    def pick(self, names):
        """The one used least so far, of a few."""
        name = min(self.r.sample(names, min(3, len(names))), key=lambda n: self.used[n])
        self.used[name] += 1
        return name

    def selector(self):
        r = self.r
        name = r.choice(("a_total", "b", "c", "c", "h_bucket", "n", "nothing"))
        matchers = []
        if r.random() < 0.4:
            matchers.append(
                r.choice(
                    (
                        'job="x"',
                        'job!="x"',
                        'instance=~"0|1"',
                        'instance!~"2.*"',
                        'job=~".+"',
                        'nope=""',
                        'instance=""',
                    )
                )
            )
        inside = "{" + ",".join(matchers) + "}" if matchers else ""
        if r.random() < 0.05:
            return r.choice(('{__name__=~"b|c"}', '{__name__=~"b|n"}'))
        return name + inside

    def modifiers(self):
        r = self.r
        text = ""
        if r.random() < 0.15:
            text += f" offset {r.choice(('-', ''))}{r.choice(('30s', '1m', '5m', '123ms', '77s'))}"
        if r.random() < 0.12:
            text += f" @ {r.choice(('start()', 'end()', '300', '600.5', '0'))}"
        return text

    def duration(self):
        return self.r.choice(("1s", "30s", "37s", "1m", "2m", "5m", "333s", "10m"))

    def range_vector(self, depth):
        if depth <= 1 or self.r.random() < 0.75:
            return f"{self.selector()}[{self.duration()}]{self.modifiers()}"
        step = self.r.choice(("", "13s", "30s", "1m"))
        return f"({self.vector(depth - 1)})[{self.duration()}:{step}]{self.modifiers()}"

    def scalar(self, depth):
        r = self.r
        kind = r.random()
        if depth <= 0 or kind < 0.6:
            return r.choice(("0", "1", "2", "-1", "0.5", "3.7", "100", "NaN", "Inf", "1e-3"))
        if kind < 0.7:
            return f"{self.pick(['time', 'pi', 'start', 'end', 'step', 'range'])}()"
        if kind < 0.8:
            self.used["scalar"] += 1
            return f"scalar({self.vector(depth - 1)})"
        if kind < 0.85:
            name = self.pick(["max_of", "min_of"])
            return f"{name}({self.scalar(depth - 1)}, {self.scalar(depth - 1)})"
        op = self.pick([o for o in OPERATORS if o not in ("and", "or", "unless")])
        mode = " bool" if op in ("==", "!=", ">", "<", ">=", "<=") else ""
        return f"({self.scalar(depth - 1)} {op}{mode} {self.scalar(depth - 1)})"

    def vector(self, depth):
        r = self.r
        if depth <= 0:
            return self.selector() + self.modifiers()
        kinds = (
            (self.selector_with_modifiers, 1),
            (self.range_call, 5),
            (self.aggregation, 3),
            (self.parametric, 2),
            (self.binary, 5),
            (self.elementwise, 2),
            (self.other, 4),
        )
        makers = [maker for maker, weight in kinds for _ in range(weight)]
        return r.choice(makers)(depth)

    def selector_with_modifiers(self, _depth):
        return self.selector() + self.modifiers()

    def range_call(self, depth):
        name = self.pick(RANGE_FUNCTIONS)
        source = self.range_vector(depth)
        if name == "quantile_over_time":
            return f"{name}({self.r.choice(('0.5', '0', '1', '0.93', '-1', '2'))}, {source})"
        if name == "predict_linear":
            return f"{name}({source}, {self.r.choice(('60', '-30', '3600'))})"
        if name == "double_exponential_smoothing":
            return f"{name}({source}, {self.r.choice(('0.3', '0.9'))}, 0.5)"
        return f"{name}({source})"

    def histogram(self, depth):
        """A vector of native histograms."""
        r = self.r
        if depth <= 0 or r.random() < 0.3:
            return f"n{self.modifiers()}"
        kind = r.random()
        if kind < 0.4:
            name = r.choice(("rate", "increase", "delta", "irate", "idelta", "sum_over_time"))
            return f"{r.choice((name, 'avg_over_time'))}(n[{self.duration()}]{self.modifiers()})"
        if kind < 0.6:
            return f"{r.choice(('sum', 'avg'))}{self.grouping()}({self.histogram(depth - 1)})"
        if kind < 0.8:
            return f"({self.histogram(depth - 1)} {r.choice('*/')} {r.choice(('2', '0.5', '3'))})"
        op = r.choice(("+", "-", "==", "!="))
        return f"({self.histogram(depth - 1)} {op} {self.histogram(depth - 1)})"

    def grouping(self):
        return self.r.choice(
            (
                "",
                " by (job)",
                " by (instance, job)",
                " without (instance)",
                " by (nope)",
                " without ()",
            )
        )

    def aggregation(self, depth):
        name = self.pick(AGGREGATIONS)
        return f"{name}{self.grouping()}({self.vector(depth - 1)})"

    def parametric(self, depth):
        name = self.pick(PARAMETRIC)
        grouping = self.grouping()
        if name == "count_values":
            return f'{name}{grouping}("v", {self.vector(0)})'
        if name == "quantile":
            q = self.r.choice(("0.5", "0", "1", "0.9", "-0.1", "1.1"))
            return f"{name}{grouping}({q}, {self.vector(depth - 1)})"
        if name == "limit_ratio":
            return (
                f"{name}{grouping}({self.r.choice(('0.5', '-0.5', '1', '0.3'))}, {self.vector(0)})"
            )
        return f"{name}{grouping}({self.r.choice(('1', '2', '5', '0'))}, {self.vector(0)})"

    def binary(self, depth):
        r = self.r
        op = self.pick(OPERATORS)
        comparison = op in ("==", "!=", ">", "<", ">=", "<=")
        mode = " bool" if comparison and r.random() < 0.4 else ""
        if op not in ("and", "or", "unless") and r.random() < 0.4:
            sides = [self.vector(0 if op == "%" else depth - 1), self.scalar(depth - 1)]
            r.shuffle(sides)
            return f"({sides[0]} {op}{mode} {sides[1]})"
        matching = r.choice(
            ("", "", " on (instance, job)", " ignoring (le)", " on (job)", " on ()")
        )
        if op not in ("and", "or", "unless"):
            if matching and r.random() < 0.4:
                copied = "" if "on (instance" in matching else "instance"
                matching += r.choice(
                    (" group_left ()", " group_right ()", f" group_left ({copied})")
                )
            if r.random() < 0.15:
                matching += r.choice((" fill (0)", " fill_left (1)", " fill_right (2)"))
        if op == "%":
            # Of plain samples: a rounding error of a large number is large beside its remainder.
            return f"({self.vector(0)} {op}{matching} {self.vector(0)})"
        if op == "or":
            # Over a range a series keeps or loses its name as a whole, by its first sample: a step
            # alone does not tell, so both sides lose theirs.
            left, right = self.elementwise(depth - 1), self.elementwise(depth - 1)
            return f"({left} or{matching} {right})"
        return f"({self.vector(depth - 1)} {op}{mode}{matching} {self.vector(depth - 1)})"

    def elementwise(self, depth):
        if self.r.random() < 0.1:
            return f"-({self.vector(depth - 1)})"
        # Of plain samples: a rounding error within grows without bound in some of these.
        name = self.pick(ELEMENTWISE)
        inner = self.vector(depth - 1) if name in WELL_CONDITIONED else self.selector()
        return f"{name}({inner})"

    def other(self, depth):
        r = self.r
        if r.random() < 0.25:
            name = self.pick(CALENDAR)
            return f"{name}()" if r.random() < 0.4 else f"{name}(round(vector(time())) * 86399)"
        name = self.pick(
            [
                n
                for n in OTHERS
                if n
                not in ("scalar", "time", "pi", "max_of", "min_of", "start", "end", "step", "range")
            ]
        )
        inner = self.vector(depth - 1)
        return {
            "clamp": lambda: f"clamp({inner}, {self.scalar(1)}, {self.scalar(1)})",
            "clamp_min": lambda: f"clamp_min({inner}, {self.scalar(1)})",
            "clamp_max": lambda: f"clamp_max({inner}, {self.scalar(1)})",
            "round": lambda: f"round({inner}{r.choice(('', ', 0.5', ', 10'))})",
            "vector": lambda: f"vector({self.scalar(depth)})",
            "label_replace": lambda: (
                f'label_replace({inner}, "{r.choice(("new", "job", "__name__"))}", "v-$1",'
                f' "{r.choice(("job", "instance"))}", "{r.choice(("(.*)", "(x|0)", "q"))}")'
            ),
            "label_join": lambda: (
                f'label_join({inner}, "{r.choice(("new", "job"))}", "-", "job", "instance")'
            ),
            "sort_by_label": lambda: f'sort_by_label({inner}, "job")',
            "sort_by_label_desc": lambda: f'sort_by_label_desc({inner}, "job")',
            "histogram_quantile": lambda: (
                f"histogram_quantile({r.choice(('0.5', '0.99', '0', '1'))},"
                f" {r.choice((*BUCKETS, self.histogram(depth)))})"
            ),
            **{
                name: lambda name=name: f"{name}({r.choice((inner, self.histogram(depth)))})"
                for name in OF_HISTOGRAMS
            },
            "histogram_quantiles": lambda: (
                f"histogram_quantiles({r.choice((*BUCKETS, self.histogram(depth)))}, 'q',"
                f" {r.choice(('0.5, 0.9', '1', '0, 0.25, 2'))})"
            ),
            "histogram_fraction": lambda: (
                f"histogram_fraction({r.choice(('0', '0.05', '-Inf'))},"
                f" {r.choice(('0.7', '3', 'Inf'))}, {r.choice(('h_bucket', 'n'))})"
            ),
        }.get(name, lambda: f"{name}({inner})")()


ALL = [*RANGE_FUNCTIONS, *ELEMENTWISE, *CALENDAR, *AGGREGATIONS, *OPERATORS, *OTHERS, *PARAMETRIC]
"""Every function and operator that is generated."""


def seeded(seed):
    return random.Random(seed)
