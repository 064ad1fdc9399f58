"""The oracle's native histograms; see naive.py. Buckets are a dict, everything else follows."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.unit.promql.naive import Sample, Unsure, divide, unique


@dataclass(frozen=True)
class Histogram:
    """buckets: {(lower, upper): count}; bounds: of custom buckets, None if exponential.

    The zero bucket is (-zero, zero), with its threshold.
    """

    schema: int
    sum: float
    zero: float
    zero_count: float
    positive: tuple[tuple[int, float], ...]
    negative: tuple[tuple[int, float], ...] = ()
    bounds: tuple[float, ...] | None = None
    count: float = 0.0

    def __float__(self):
        raise TypeError("a histogram is no float")


def negated(value):
    return times(value, -1.0) if is_histogram(value) else -value


def tidy(buckets):
    return tuple(sorted((i, n) for i, n in buckets.items() if n != 0))


def coarser(h, schema):
    """Bucket i is (b^(i-1), b^i], so halving the resolution joins 2j-1 and 2j to j."""
    while h.schema > schema:
        sides = []
        for side in (h.positive, h.negative):
            joined = {}
            for i, n in side:
                joined[(i + 1) // 2] = joined.get((i + 1) // 2, 0.0) + n
            sides.append(tidy(joined))
        h = replace(h, schema=h.schema - 1, positive=sides[0], negative=sides[1])
    return h


def with_bounds(h, bounds):
    """Observations by the least of `bounds` that is not below their own upper bound."""
    joined = {}
    for i, n in h.positive:
        upper = h.bounds[i] if i < len(h.bounds) else math.inf
        target = sum(bound < upper for bound in bounds)
        joined[target] = joined.get(target, 0.0) + n
    return replace(h, bounds=bounds, positive=tidy(joined))


def combined(a, b, sign):
    """a + sign * b; None if one is exponential and the other is not."""
    if (a.bounds is None) != (b.bounds is None):
        return None
    if a.bounds is not None:
        common = tuple(bound for bound in a.bounds if bound in b.bounds)
        a, b = with_bounds(a, common), with_bounds(b, common)
    else:
        schema = min(a.schema, b.schema)
        a, b = coarser(a, schema), coarser(b, schema)

    def joined(mine, others):
        total = dict(mine)
        for i, n in others:
            total[i] = total.get(i, 0.0) + sign * n
        return tidy(total)

    return replace(
        a,
        sum=a.sum + sign * b.sum,
        count=a.count + sign * b.count,
        zero_count=a.zero_count + sign * b.zero_count,
        positive=joined(a.positive, b.positive),
        negative=joined(a.negative, b.negative),
    )


def scaled(h, factor, operation):
    def side(buckets):
        return tidy({i: operation(n, factor) for i, n in buckets})

    return replace(
        h,
        sum=operation(h.sum, factor),
        count=operation(h.count, factor),
        zero_count=operation(h.zero_count, factor),
        positive=side(h.positive),
        negative=side(h.negative),
    )


def times(h, factor):
    return scaled(h, factor, lambda n, f: n * f)


def over(h, divisor):
    if divisor == 0:
        h = replace(h, positive=(), negative=())
    return scaled(h, divisor, divide)


def fell(now, before):
    """Whether a counter was reset in between."""
    if now.count < before.count or (now.bounds is None) != (before.bounds is None):
        return True
    if now.bounds is not None:
        common = tuple(bound for bound in now.bounds if bound in before.bounds)
        now, before = with_bounds(now, common), with_bounds(before, common)
    elif now.schema > before.schema:
        return True
    before = before if now.bounds is not None else coarser(before, now.schema)
    return now.zero_count < before.zero_count or any(
        dict(mine).get(i, 0.0) < n
        for mine, theirs in ((now.positive, before.positive), (now.negative, before.negative))
        for i, n in theirs
    )


def rate(points, start, end, is_counter, per_second):
    if len(points) < 2:
        return None
    first = points[0][1]
    kept = points
    if is_counter and fell(points[1][1], first):
        kept = points[1:]  # what was before does not matter, nor does its layout
        growth = kept[-1][1]
    else:
        growth = None
    relevant = [h for _, h in (kept if is_counter else (points[0], points[-1]))]
    if len({h.bounds is None for h in relevant}) > 1:
        return None
    if growth is None:
        growth = combined(points[-1][1], first, -1)
    if growth.bounds is None:
        growth = coarser(growth, min(h.schema for h in relevant))
    if is_counter:
        for (_, before), (_, now) in pairwise(kept):
            if fell(now, before):
                growth = combined(growth, before, 1)
    sampled = (points[-1][0] - points[0][0]) / 1000
    gap = sampled / (len(points) - 1)
    to_start, to_end = (points[0][0] - start) / 1000, (end - points[-1][0]) / 1000
    to_start = gap / 2 if to_start >= gap * 1.1 else to_start
    to_end = gap / 2 if to_end >= gap * 1.1 else to_end
    if is_counter and growth.count > 0 and first.count >= 0:
        to_start = min(to_start, sampled * (first.count / growth.count))
    factor = (sampled + to_start + to_end) / sampled
    return times(growth, factor / ((end - start) / 1000) if per_second else factor)


def instant_rate(points, is_rate):
    if len(points) < 2:
        return None
    (t0, before), (t1, now) = points[-2:]
    change = now if is_rate and fell(now, before) else combined(now, before, -1)
    if change is None or not is_rate:
        return change
    return over(change, (t1 - t0) / 1000)


def total(histograms):
    result = histograms[0]
    for h in histograms[1:]:
        result = None if result is None else combined(result, h, 1)
    return result


def average(histograms):
    result = total(histograms)
    return None if result is None else over(result, float(len(histograms)))


def buckets(h):
    """(lower, upper, count) of each that has observations, ascending."""
    if h.bounds is not None:
        edges = (-math.inf, *h.bounds, math.inf)
        return [(edges[i], edges[i + 1], n) for i, n in h.positive]
    base = 2 ** (2**-h.schema)
    found = [(-(base**i), -(base ** (i - 1)), n) for i, n in reversed(h.negative)]
    if h.zero_count:
        found.append((-h.zero, h.zero, h.zero_count))
    return found + [(base ** (i - 1), base**i, n) for i, n in h.positive]


def zero_bounds(h, lower, upper):
    if lower < 0 < upper and h.positive and not h.negative:
        return 0.0, upper
    if lower < 0 < upper and h.negative and not h.positive:
        return lower, 0.0
    return lower, upper


def require_counts(h):
    """Quantiles of less than no observations mean nothing."""
    if any(n < 0 for _, _, n in buckets(h)):
        raise Unsure


def between(lower, upper, share, linear):
    if linear or lower <= 0 <= upper:
        return lower + (upper - lower) * share
    return lower * (upper / lower) ** share


def quantile(q, h):
    if q < 0 or q > 1:
        return -math.inf if q < 0 else math.inf
    if h.count == 0 or math.isnan(q):
        return math.nan
    require_counts(h)
    up = q < 0.5
    rank, seen = (q if up else 1 - q) * h.count, 0.0
    ordered = buckets(h) if up else buckets(h)[::-1]
    for lower, upper, n in ordered:
        seen += n
        if seen >= rank or (lower, upper, n) == ordered[-1]:
            break
    linear = h.bounds is not None
    if linear and lower == -math.inf:
        if upper <= 0:
            return upper
        lower = 0.0
    elif linear and upper == math.inf:
        return lower
    elif not linear:
        lower, upper = zero_bounds(h, lower, upper)
    share = (rank - (seen - n)) / n if up else (seen - rank) / n
    return between(lower, upper, share, linear)


def fraction(low, high, h):
    if h.count == 0 or math.isnan(low) or math.isnan(high):
        return math.nan
    if low >= high:
        return 0.0
    require_counts(h)

    def below(v):
        seen = 0.0
        for begin, end, n in buckets(h):
            linear = h.bounds is not None or begin <= 0 <= end
            lower, upper = zero_bounds(h, begin, end) if begin <= 0 <= end else (begin, end)
            if lower >= v:
                return seen
            if lower < v < upper:
                if lower == -math.inf:
                    return n
                if linear:
                    return seen + n * (v - lower) / (upper - lower)
                return seen + n * math.log(v / lower) / math.log(upper / lower)
            seen += n
        return h.count

    return (min(below(high), h.count) - min(below(low), h.count)) / h.count


def variance(h):
    mean, acc = divide(h.sum, h.count), 0.0
    for lower, upper, n in buckets(h):
        if h.bounds is not None:
            middle = (lower + upper) / 2
        elif lower <= 0 <= upper:
            middle = 0.0
        else:
            middle = math.copysign(math.sqrt(lower * upper), upper)
        acc += n * (middle - mean) ** 2
    return divide(acc, h.count)


def deviation(h):
    v = variance(h)
    return math.sqrt(v) if v >= 0 else math.nan


FLOATS = {
    "histogram_count": lambda h: h.count,
    "histogram_sum": lambda h: h.sum,
    "histogram_avg": lambda h: divide(h.sum, h.count),
    "histogram_stdvar": variance,
    "histogram_stddev": deviation,
}

RANGE_FUNCTIONS = {
    "rate": lambda p, s, e: rate(p, s, e, True, True),
    "increase": lambda p, s, e: rate(p, s, e, True, False),
    "delta": lambda p, s, e: rate(p, s, e, False, False),
    "irate": lambda p, s, e: instant_rate(p, True),
    "idelta": lambda p, s, e: instant_rate(p, False),
    "sum_over_time": lambda p, s, e: total([h for _, h in p]),
    "avg_over_time": lambda p, s, e: average([h for _, h in p]),
    "first_over_time": lambda p, s, e: p[0][1],
    "last_over_time": lambda p, s, e: p[-1][1],
    "count_over_time": lambda p, s, e: float(len(p)),
    "present_over_time": lambda p, s, e: 1.0,
    "changes": lambda p, s, e: float(sum(a != b for (_, a), (_, b) in pairwise(p))),
    "resets": lambda p, s, e: float(sum(fell(b, a) for (_, a), (_, b) in pairwise(p))),
}
"""Of windows of histograms alone; those that are not here have no result for them."""


def each(vector, function):
    """`function` of every histogram; floats are left out."""
    found = [Sample(s.labels, function(s.value), True) for s in vector if is_histogram(s.value)]
    return unique(found)


def is_histogram(value):
    return isinstance(value, Histogram)


def binary(op, left, right):
    """The value of one pair, and whether a comparison holds; None if there is no result."""
    if is_histogram(left) and is_histogram(right):
        if op in ("==", "!="):
            same = left == right
            return left, same == (op == "==")
        if op not in ("+", "-"):
            return None
        result = combined(left, right, 1 if op == "+" else -1)
        return None if result is None else (result, True)
    if op == "*":
        h, factor = (left, right) if is_histogram(left) else (right, left)
        return times(h, factor), True
    if op == "/" and is_histogram(left):
        return over(left, right), True
    return None
