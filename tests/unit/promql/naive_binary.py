"""The oracle's binary operators; see naive.py."""

import math
import operator
from dataclasses import replace

from tests.unit.promql import naive_histograms as histograms
from tests.unit.promql.naive import METADATA, Failure, Sample, Unsure, divide, labelled, unique


def power(a, b):
    try:
        result = math.pow(a, b)
    except OverflowError:
        negative = a < 0 and b % 2 == 1
        return -math.inf if negative else math.inf
    except ValueError:
        if a == 0:
            return -math.inf if math.copysign(1, a) < 0 and b % 2 == 1 else math.inf
        return math.nan
    return result


def modulo(a, b):
    if b == 0 or math.isinf(a) or math.isnan(a) or math.isnan(b):
        return math.nan
    return math.fmod(a, b)


ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": modulo,
    "^": power,
    "atan2": math.atan2,
}
COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def binary(expr, left, right):
    if isinstance(left, float) and isinstance(right, float):
        if expr.op in COMPARISONS:
            return float(COMPARISONS[expr.op](left, right))
        return ARITHMETIC[expr.op](left, right)
    if isinstance(left, float) or isinstance(right, float):
        return with_scalar(expr, left, right)
    if expr.op in ("and", "or", "unless"):
        return set_operation(expr, left, right)
    return join(expr, left, right)


def pair(op, a, b):
    """The value, and whether a comparison of the two holds; None if they have no result."""
    if histograms.is_histogram(a) or histograms.is_histogram(b):
        return histograms.binary(op, a, b)
    if op in ARITHMETIC:
        return ARITHMETIC[op](a, b), True
    return a, COMPARISONS[op](a, b)


def with_scalar(expr, left, right):
    vector = right if isinstance(left, float) else left
    found = []
    for s in vector:
        a, b = (left, s.value) if isinstance(left, float) else (s.value, right)
        result = pair(expr.op, a, b)
        if result is None:
            continue
        if expr.op in ARITHMETIC:
            found.append(Sample(s.labels, result[0], True))
        elif expr.return_bool:
            found.append(Sample(s.labels, float(result[1]), True))
        elif result[1]:
            found.append(replace(s, ts=None))
    return found


def signature(matching, labels):
    if matching.on:
        return labelled((n, v) for n, v in labels if n in matching.labels)
    return labelled((n, v) for n, v in labels if n not in matching.labels and n != "__name__")


def set_operation(expr, left, right):
    matching = expr.matching
    lefts = {signature(matching, s.labels) for s in left}
    rights = {signature(matching, s.labels) for s in right}
    if expr.op == "and":
        return [s for s in left if signature(matching, s.labels) in rights]
    if expr.op == "unless":
        return [s for s in left if signature(matching, s.labels) not in rights]
    return unique(left + [s for s in right if signature(matching, s.labels) not in lefts])


def join(expr, left, right):  # noqa: C901 - the rules in the order they apply
    matching = expr.matching
    swapped = matching.cardinality == "one-to-many"
    many, one = (right, left) if swapped else (left, right)
    # As upstream's engine, which swaps the sides for group_right but not these.
    fill_many, fill_one = matching.fill_lhs, matching.fill_rhs
    if fill_many is None and fill_one is None and not (many and one):
        return []
    partners = {}
    for s in one:
        key = signature(matching, s.labels)
        if key in partners:
            raise Failure("found duplicate series for the match group")
        partners[key] = s
    pairs = []
    for s in many:
        key = signature(matching, s.labels)
        if key in partners:
            pairs.append((key, s, partners[key]))
        elif fill_one is not None:
            pairs.append((key, s, Sample(key, fill_one)))
    if fill_many is not None:
        met = {key for key, _, _ in pairs}
        pairs += [(k, Sample(k, fill_many), s) for k, s in partners.items() if k not in met]
    found, seen = [], set()
    for key, m, o in pairs:
        a, b = (o.value, m.value) if swapped else (m.value, o.value)
        result = pair(expr.op, a, b)
        if result is None:
            if fill_many is not None or fill_one is not None:
                raise Unsure  # whether what has no result is missing
            continue
        labels = result_labels(expr, m.labels, o.labels)
        mark = key if matching.cardinality == "one-to-one" else (key, labels)
        if mark in seen:
            raise Failure("multiple matches for labels")
        seen.add(mark)
        if expr.op in ARITHMETIC:
            found.append(Sample(labels, result[0]))
        elif expr.return_bool:
            found.append(Sample(labels, float(result[1]), True))
        elif result[1]:
            found.append(Sample(labels, result[0], m.drop))
    return unique(found)


def result_labels(expr, many, one):
    matching = expr.matching
    labels = dict(many)
    if expr.op in ARITHMETIC:
        labels = {n: v for n, v in labels.items() if n not in METADATA}
    if matching.cardinality == "one-to-one":
        labels = {n: v for n, v in labels.items() if (n in matching.labels) == matching.on}
    for name in matching.include:
        labels[name] = dict(one).get(name, "")
    return labelled(labels)
