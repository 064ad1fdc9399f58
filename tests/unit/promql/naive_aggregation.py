"""The oracle's aggregations; see naive.py."""

import math

from tests.unit.promql import naive_histograms as histograms
from tests.unit.promql.naive import Failure, Sample, Unsure, kahan, labelled, quantile, share_of
from tests.unit.promql.naive_functions import average, root
from varve.promql.syntax.literals import format_number


def aggregate(expr, vector, parameter):
    if expr.op == "count_values":
        return count_values(expr, vector, parameter)
    groups = {}
    for s in vector:
        groups.setdefault(group_labels(expr, s.labels, expr.grouping), []).append(s)
    if expr.op in ("topk", "bottomk", "limitk"):
        return choose(expr.op, groups, parameter)
    if expr.op == "limit_ratio":
        return ratio(groups, parameter)
    found = []
    for labels, samples in groups.items():
        values = [s.value for s in samples]
        if expr.op not in ("count", "group") and any(map(histograms.is_histogram, values)):
            value = of_histograms(expr.op, values)
            if value is not None:
                found.append(Sample(labels, value, any(s.drop for s in samples)))
                continue
            values = [v for v in values if not histograms.is_histogram(v)]
            if expr.op in ("sum", "avg") or not values:
                continue
        if expr.op == "quantile":
            value = quantile(parameter, values)
        else:
            value = OPERATIONS[expr.op](values)
        found.append(Sample(labels, value, any(s.drop for s in samples)))
    return found


def group_labels(expr, labels, names):
    if expr.without:
        return labelled((n, v) for n, v in labels if n not in names and n != "__name__")
    return labelled((n, v) for n, v in labels if n in names)


def total(values):
    s, c = values[0], 0.0
    for v in values[1:]:
        s, c = kahan(v, s, c)
    return s + c


def variance(values):
    first = values[0]
    acc, mean, n = (math.nan if math.isnan(first) or math.isinf(first) else 0.0), first, 1
    for v in values[1:]:
        n += 1
        delta = v - mean
        mean += delta / n
        acc += delta * (v - mean)
    return acc / n


def least(values, better):
    best = values[0]
    for v in values[1:]:
        if better(v, best) or math.isnan(best):
            best = v
    return best


OPERATIONS = {
    "sum": total,
    "avg": average,
    "count": lambda values: float(len(values)),
    "group": lambda values: 1.0,
    "min": lambda values: least(values, lambda a, b: a < b),
    "max": lambda values: least(values, lambda a, b: a > b),
    "stdvar": variance,
    "stddev": lambda values: root(variance(values)),
}


def of_histograms(op, values):
    """sum or avg of nothing but histograms, else None."""
    if op not in ("sum", "avg") or not all(map(histograms.is_histogram, values)):
        return None
    return histograms.total(values) if op == "sum" else histograms.average(values)


def choose(op, groups, parameter):
    if math.isnan(parameter) or abs(parameter) >= 2**63:
        raise Failure("not an integer")
    k = int(parameter)
    if k < 1:
        return []
    found = []
    for samples in groups.values():
        ordered = samples
        if op != "limitk":
            numbers = [s for s in samples if not histograms.is_histogram(s.value)]
            sign = -1 if op == "topk" else 1
            ordered = sorted(
                numbers,
                key=lambda s: (math.isnan(s.value), 0 if math.isnan(s.value) else sign * s.value),
            )
        found += ordered[:k]
    return found


def ratio(groups, parameter):
    if math.isnan(parameter):
        raise Failure("ratio is NaN")
    r = max(-1.0, min(1.0, parameter))
    if r == 0:
        return []
    return [
        s
        for samples in groups.values()
        for s in samples
        if (share_of(s.labels) < r if r > 0 else share_of(s.labels) >= 1 + r)
    ]


def count_values(expr, vector, label):
    names = expr.grouping if expr.without else {*expr.grouping, label}
    counts = {}
    if any(histograms.is_histogram(s.value) for s in vector):
        raise Unsure
    for s in vector:
        labels = labelled({**dict(s.labels), label: format_number(s.value)})
        key = group_labels(expr, labels, names)
        counts[key] = counts.get(key, 0) + 1
    return [Sample(labels, float(n)) for labels, n in counts.items()]
