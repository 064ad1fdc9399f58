"""The oracle's functions; see naive.py."""

import datetime as dt
import math
import re
from itertools import pairwise

from tests.unit.promql import naive_histograms as histograms
from tests.unit.promql.naive import (
    Failure,
    Sample,
    Unsure,
    absent_labels,
    bare,
    divide,
    kahan,
    labelled,
    quantile,
)
from varve.promql.syntax import ast
from varve.promql.syntax.go_numbers import format_open_metrics
from varve.promql.syntax.tree import walk


def total(values):
    s = c = 0.0
    for v in values:
        s, c = kahan(v, s, c)
    return s if math.isinf(s) else s + c


def average(values):
    s, c, n, mean, incremental = values[0], 0.0, 1, 0.0, False
    for v in values[1:]:
        n += 1
        if not incremental:
            new_s, new_c = kahan(v, s, c)
            if not math.isinf(new_s):
                s, c = new_s, new_c
                continue
            incremental, mean, c = True, s / (n - 1), c / (n - 1)
        share = (n - 1) / n
        mean, c = kahan(v / n, share * mean, share * c)
    return mean + c if incremental else s / n + c / n


def variance(values):
    n = 0
    mean = c_mean = aux = c_aux = 0.0
    for v in values:
        n += 1
        delta = v - (mean + c_mean)
        mean, c_mean = kahan(delta / n, mean, c_mean)
        aux, c_aux = kahan(delta * (v - (mean + c_mean)), aux, c_aux)
    return (aux + c_aux) / n


def root(v):
    return math.sqrt(v) if v >= 0 else math.nan


def extreme(points, better):
    best = points[0]
    for p in points:
        if better(p[1], best[1]) or math.isnan(best[1]):
            best = p
    return best


def values_of(points):
    return [v for _, v in points]


def rate(points, start, end, is_counter, per_second):
    if len(points) < 2:
        return None
    (first_t, first), (last_t, last) = points[0], points[-1]
    growth = last - first
    if is_counter:
        for (_, before), (_, now) in pairwise(points):
            if now < before:
                growth += before
    sampled = (last_t - first_t) / 1000
    average_gap = sampled / (len(points) - 1)
    to_start, to_end = (first_t - start) / 1000, (end - last_t) / 1000
    if to_start >= average_gap * 1.1:
        to_start = average_gap / 2
    if is_counter and growth > 0 and first >= 0:
        to_start = min(to_start, sampled * divide(first, growth))
    if to_end >= average_gap * 1.1:
        to_end = average_gap / 2
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor /= (end - start) / 1000
    return growth * factor


def instant_rate(points, is_rate):
    if len(points) < 2:
        return None
    (t0, before), (t1, now) = points[-2:]
    change = now - before
    if is_rate:
        return (now if now < before else change) / ((t1 - t0) / 1000)
    return change


def regression(points, at):
    n = float(len(points))
    if all(v == points[0][1] for _, v in points):
        constant = points[0][1]
        return (math.nan, math.nan) if math.isinf(constant) else (0.0, constant)
    xs = [(t - at) / 1000 for t, _ in points]
    ys = values_of(points)

    def compensated(values):
        s = c = 0.0
        for v in values:
            s, c = kahan(v, s, c)
        return s + c

    sum_x, sum_y = compensated(xs), compensated(ys)
    sum_xy = compensated([x * y for x, y in zip(xs, ys, strict=True)])
    sum_x2 = compensated([x * x for x in xs])
    slope = divide(sum_xy - sum_x * sum_y / n, sum_x2 - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def smoothing(points, sf, tf):
    for name, factor in (("smoothing", sf), ("trend", tf)):
        if not 0 < factor < 1:
            raise Failure(name)
    values = values_of(points)
    if len(values) < 2:
        return None
    before, level, trend = 0.0, values[0], values[1] - values[0]
    for i, v in enumerate(values[1:]):
        if i > 0:
            trend = tf * (level - before) + (1 - tf) * trend
        before, level = level, sf * v + (1 - sf) * (level + trend)
    return level


def mad(values):
    if any(math.isnan(v) for v in values):
        return math.nan
    median = quantile(0.5, values)
    return quantile(0.5, [abs(v - median) for v in values])


def changes(values):
    return float(sum(b != a and not (math.isnan(a) and math.isnan(b)) for a, b in pairwise(values)))


def resets(values):
    return float(sum(b < a for a, b in pairwise(values)))


RANGE_FUNCTIONS = {
    "rate": lambda p, s, e, t: rate(p, s, e, True, True),
    "increase": lambda p, s, e, t: rate(p, s, e, True, False),
    "delta": lambda p, s, e, t: rate(p, s, e, False, False),
    "irate": lambda p, s, e, t: instant_rate(p, True),
    "idelta": lambda p, s, e, t: instant_rate(p, False),
    "sum_over_time": lambda p, s, e, t: total(values_of(p)),
    "avg_over_time": lambda p, s, e, t: average(values_of(p)),
    "count_over_time": lambda p, s, e, t: float(len(p)),
    "min_over_time": lambda p, s, e, t: extreme(p, lambda a, b: a < b)[1],
    "max_over_time": lambda p, s, e, t: extreme(p, lambda a, b: a > b)[1],
    "first_over_time": lambda p, s, e, t: p[0][1],
    "last_over_time": lambda p, s, e, t: p[-1][1],
    "stddev_over_time": lambda p, s, e, t: root(variance(values_of(p))),
    "stdvar_over_time": lambda p, s, e, t: variance(values_of(p)),
    "present_over_time": lambda p, s, e, t: 1.0,
    "changes": lambda p, s, e, t: changes(values_of(p)),
    "resets": lambda p, s, e, t: resets(values_of(p)),
    "ts_of_first_over_time": lambda p, s, e, t: p[0][0] / 1000,
    "ts_of_last_over_time": lambda p, s, e, t: p[-1][0] / 1000,
    "ts_of_min_over_time": lambda p, s, e, t: extreme(p, lambda a, b: a <= b)[0] / 1000,
    "ts_of_max_over_time": lambda p, s, e, t: extreme(p, lambda a, b: a >= b)[0] / 1000,
    "quantile_over_time": lambda p, s, e, t, q: quantile(q, values_of(p)),
    "mad_over_time": lambda p, s, e, t: mad(values_of(p)),
    "deriv": lambda p, s, e, t: None if len(p) < 2 else regression(p, p[0][0])[0],
    "predict_linear": lambda p, s, e, t, d: (
        None if len(p) < 2 else regression(p, t)[0] * d + regression(p, t)[1]
    ),
    "double_exponential_smoothing": lambda p, s, e, t, sf, tf: smoothing(p, sf, tf),
}


def over_window(name, points, start, end, t, scalars):
    """The value of a range function, None if it has none."""
    kinds = {histograms.is_histogram(v) for _, v in points}
    if kinds == {True, False}:
        raise Unsure
    if kinds == {True}:
        function = histograms.RANGE_FUNCTIONS.get(name)
        if name.startswith("ts_of_") and name.endswith(("first_over_time", "last_over_time")):
            function = lambda p, s, e: RANGE_FUNCTIONS[name](p, s, e, t)  # noqa: E731
        return None if function is None else function(points, start, end)
    return RANGE_FUNCTIONS[name](points, start, end, t, *scalars)


def floats(vector):
    """Functions of numbers leave histograms out."""
    return [s for s in vector if not histograms.is_histogram(s.value)]


def guarded(function):
    """NaN outside the domain, infinity on overflow."""

    def call(v):
        try:
            return float(function(v))
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return call


def logarithm(function):
    return lambda v: -math.inf if v == 0 else guarded(function)(v)


def odd(function):
    """A function of which f(-x) = -f(x), and that overflows to infinity."""
    return lambda v: -guarded(function)(-v) if v < 0 else guarded(function)(v)


def whole(function):
    return lambda v: v if math.isnan(v) or math.isinf(v) else math.copysign(float(function(v)), v)


ELEMENTWISE = {
    "abs": abs,
    "ceil": whole(math.ceil),
    "exp": guarded(math.exp),
    "floor": whole(math.floor),
    "ln": logarithm(math.log),
    "log10": logarithm(math.log10),
    "log2": logarithm(math.log2),
    "sgn": lambda v: -1.0 if v < 0 else 1.0 if v > 0 else v,
    "sqrt": root,
    "acos": guarded(math.acos),
    "acosh": guarded(math.acosh),
    "asin": guarded(math.asin),
    "asinh": guarded(math.asinh),
    "atan": guarded(math.atan),
    "atanh": lambda v: math.copysign(math.inf, v) if abs(v) == 1 else guarded(math.atanh)(v),
    "cos": guarded(math.cos),
    "cosh": guarded(math.cosh),
    "sin": guarded(math.sin),
    "sinh": odd(math.sinh),
    "tan": guarded(math.tan),
    "tanh": guarded(math.tanh),
    "deg": lambda v: v * 180 / math.pi,
    "rad": lambda v: v * math.pi / 180,
}


def each(function):
    def call(ev, expr, t, q):
        vector = floats(ev.eval(expr.args[0], t, q))
        return [Sample(s.labels, function(s.value), True) for s in vector]

    return call


def clamp(ev, expr, t, q):
    vector = floats(ev.eval(expr.args[0], t, q))
    bounds = [ev.eval(a, t, q) for a in expr.args[1:]]
    low, high = {
        "clamp": lambda: bounds,
        "clamp_min": lambda: (bounds[0], math.inf),
        "clamp_max": lambda: (-math.inf, bounds[0]),
    }[expr.func]()
    if high < low:
        return []

    return [Sample(s.labels, greater(low, lesser(high, s.value)), True) for s in vector]


def greater(a, b):
    """Go's math.Max: an infinity that settles it beats NaN."""
    if math.inf in (a, b):
        return math.inf
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def lesser(a, b):
    return -greater(-a, -b)


def rounded(ev, expr, t, q):
    nearest = ev.eval(expr.args[1], t, q) if len(expr.args) > 1 else 1.0
    inverse = divide(1.0, nearest)

    def one(v):
        scaled = v * inverse + 0.5
        if math.isnan(scaled) or math.isinf(scaled):
            return divide(scaled, inverse)
        return divide(float(math.floor(scaled)), inverse)

    return [Sample(s.labels, one(s.value), True) for s in floats(ev.eval(expr.args[0], t, q))]


def native(function):
    def call(ev, expr, t, q):
        vector = ev.eval(expr.args[0], t, q)
        added = any(isinstance(e, ast.Binary) and e.op in ("+", "-") for e in walk(expr))
        if added and any(histograms.is_histogram(s.value) for s in vector):
            raise Unsure  # with what is known of counter resets a sum may have no result
        return histograms.each(vector, function)

    return call


def calendar(function):
    def call(ev, expr, t, q):
        if not expr.args:
            return [Sample((), float(function(moment(int(t / 1000)))))]
        vector = floats(ev.eval(expr.args[0], t, q))
        return [Sample(s.labels, float(function(moment(int(s.value)))), True) for s in vector]

    return call


def moment(seconds):
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)


def days_in_month(d):
    following = (d.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
    return (following - dt.timedelta(days=1)).day


def scalar(ev, expr, t, q):
    vector = floats(ev.eval(expr.args[0], t, q))
    return vector[0].value if len(vector) == 1 else math.nan


def absent(ev, expr, t, q):
    if ev.eval(expr.args[0], t, q):
        return []
    selector = bare(expr.args[0])
    stated = selector if isinstance(selector, ast.VectorSelector) else None
    return [Sample(absent_labels(stated), 1.0)]


def timestamp(ev, expr, t, q):
    vector = ev.eval(expr.args[0], t, q)
    plain = isinstance(bare(expr.args[0]), ast.VectorSelector)
    return [Sample(s.labels, (s.ts if plain else t) / 1000, True) for s in vector]


def label_replace(ev, expr, t, q):
    target, template, source, pattern = (a.value for a in map(bare, expr.args[1:]))
    found = []
    for s in ev.eval(expr.args[0], t, q):
        match = re.fullmatch(pattern, s.get(source), re.DOTALL)
        if match is None:
            found.append(s)
            continue
        text = re.sub(r"\$(\d)", lambda r, m=match: m.group(int(r[1])) or "", template)
        drop = s.drop and target != "__name__"
        found.append(Sample(labelled({**dict(s.labels), target: text}), s.value, drop))
    return merged(found)


def label_join(ev, expr, t, q):
    target, separator, *sources = (a.value for a in map(bare, expr.args[1:]))
    found = []
    for s in ev.eval(expr.args[0], t, q):
        text = separator.join(s.get(source) for source in sources)
        drop = s.drop and target != "__name__"
        found.append(Sample(labelled({**dict(s.labels), target: text}), s.value, drop))
    return merged(found)


def merged(samples):
    if len({s.labels for s in samples}) < len(samples):
        raise Failure("vector cannot contain metrics with the same labelset")
    return samples


def histogram_quantile(ev, expr, t, q):
    wanted = ev.eval(expr.args[0], t, q)
    vector = ev.eval(expr.args[1], t, q)
    native = histograms.each(vector, lambda h: histograms.quantile(wanted, h))
    return merged(native + _of_buckets(floats(vector), lambda b: bucket_quantile(wanted, b)))


def histogram_fraction(ev, expr, t, q):
    low, high = (ev.eval(a, t, q) for a in expr.args[:2])
    vector = ev.eval(expr.args[2], t, q)
    native = histograms.each(vector, lambda h: histograms.fraction(low, high, h))
    return merged(native + _of_buckets(floats(vector), lambda b: bucket_fraction(low, high, b)))


def histogram_quantiles(ev, expr, t, q):
    label = bare(expr.args[1]).value
    found = []
    for arg in expr.args[2:]:
        wanted = ev.eval(arg, t, q)
        call = ast.Call("histogram_quantile", (arg, expr.args[0]))
        found += [
            Sample(labelled({**dict(s.labels), label: format_open_metrics(wanted)}), s.value, True)
            for s in histogram_quantile(ev, call, t, q)
        ]
    return merged(found)


def start_timestamp(ev, expr, t, q):
    """The data has none, which is 0; and an expression has no sample of its own."""
    if not isinstance(bare(expr.args[0]), ast.VectorSelector):
        return []
    return [Sample(s.labels, 0.0, True) for s in ev.eval(expr.args[0], t, q)]


def _of_buckets(vector, function):
    groups = {}
    for s in vector:
        try:
            bound = float(s.get("le"))
        except ValueError:
            continue
        key = labelled((n, v) for n, v in s.labels if n != "le")
        counts = groups.setdefault(key, {})
        counts[bound] = counts.get(bound, 0.0) + s.value
    return [Sample(key, function(sorted(b.items())), True) for key, b in groups.items()]


def almost(a, b):
    if a == b:
        return True
    if a == 0 or b == 0 or abs(a) + abs(b) < 2.3e-308:
        return False
    return abs(a - b) / min(abs(a) + abs(b), 1.7e308) < 1e-12


def bucket_quantile(q, buckets):
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return -math.inf if q < 0 else math.inf
    if buckets[-1][0] != math.inf:
        return math.nan
    counts = [buckets[0][1]]
    for _, n in buckets[1:]:
        counts.append(counts[-1] if almost(counts[-1], n) or n < counts[-1] else n)
    if len(buckets) < 2 or counts[-1] == 0:
        return math.nan
    rank = q * counts[-1]
    b = next((i for i in range(len(counts) - 1) if counts[i] >= rank), len(counts) - 1)
    if b == len(counts) - 1:
        return buckets[-2][0]
    if b == 0 and buckets[0][0] <= 0:
        return buckets[0][0]
    start, inside = 0.0, counts[b]
    if b > 0:
        start, inside, rank = buckets[b - 1][0], inside - counts[b - 1], rank - counts[b - 1]
    return start + (buckets[b][0] - start) * divide(rank, inside)


def bucket_fraction(low, high, buckets):
    if buckets[-1][0] != math.inf:
        return math.nan
    count = buckets[-1][1]
    if count == 0 or math.isnan(count) or math.isnan(low) or math.isnan(high):
        return math.nan
    if low >= high:
        return 0.0

    def rank(v):
        before, start = 0.0, 0.0 if buckets[0][0] > 0 else -math.inf
        for bound, n in buckets:
            if start >= v:
                return before
            if start < v < bound:
                if start == -math.inf:
                    return n
                return before + (n - before) * (v - start) / (bound - start)
            before, start = n, bound
        return count

    return (min(rank(high), count) - min(rank(low), count)) / count


FUNCTIONS = {
    **{name: each(function) for name, function in ELEMENTWISE.items()},
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "round": rounded,
    "year": calendar(lambda d: d.year),
    "month": calendar(lambda d: d.month),
    "day_of_month": calendar(lambda d: d.day),
    "day_of_week": calendar(lambda d: d.isoweekday() % 7),
    "day_of_year": calendar(lambda d: d.timetuple().tm_yday),
    "days_in_month": calendar(days_in_month),
    "hour": calendar(lambda d: d.hour),
    "minute": calendar(lambda d: d.minute),
    "scalar": scalar,
    "vector": lambda ev, e, t, q: [Sample((), ev.eval(e.args[0], t, q))],
    "absent": absent,
    "time": lambda ev, e, t, q: t / 1000,
    "pi": lambda ev, e, t, q: math.pi,
    "timestamp": timestamp,
    "label_replace": label_replace,
    "label_join": label_join,
    "sort": lambda ev, e, t, q: floats(ev.eval(e.args[0], t, q)),
    "sort_desc": lambda ev, e, t, q: floats(ev.eval(e.args[0], t, q)),
    **{name: native(function) for name, function in histograms.FLOATS.items()},
    "sort_by_label": lambda ev, e, t, q: ev.eval(e.args[0], t, q),
    "sort_by_label_desc": lambda ev, e, t, q: ev.eval(e.args[0], t, q),
    "histogram_quantile": histogram_quantile,
    "histogram_quantiles": histogram_quantiles,
    "histogram_fraction": histogram_fraction,
    "start_timestamp": start_timestamp,
    "max_of": lambda ev, e, t, q: both(ev, e, t, q, greater),
    "min_of": lambda ev, e, t, q: both(ev, e, t, q, lesser),
    "start": lambda ev, e, t, q: q.start / 1000,
    "end": lambda ev, e, t, q: q.end / 1000,
    "step": lambda ev, e, t, q: q.step / 1000,
    "range": lambda ev, e, t, q: (q.end - q.start) / 1000,
}


def both(ev, expr, t, q, choose):
    a, b = (ev.eval(arg, t, q) for arg in expr.args)
    return choose(a, b)
