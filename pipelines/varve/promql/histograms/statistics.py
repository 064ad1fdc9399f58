"""Computes quantiles, fractions and moments of a native histogram, and its text.

Source: Prometheus, promql/quantile.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from varve.promql.histograms.native_histogram import Bucket, FloatHistogram, divide
from varve.promql.histograms.sums import kahan
from varve.promql.syntax.go_numbers import format_g

NaNNote = Literal["result is NaN", "result is skewed higher"]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile, and what NaN observations did to it if there were any."""

    value: float
    nan_note: NaNNote | None = None


def quantile(q: float, h: FloatHistogram) -> Quantile:
    """The q-quantile, interpolated linearly within custom and zero buckets, else exponentially."""
    if q < 0:
        return Quantile(-math.inf)
    if q > 1:
        return Quantile(math.inf)
    if h.count == 0 or math.isnan(q):
        return Quantile(math.nan)
    # NaN observations are counted but in no bucket: then only counting upwards is right.
    forward = math.isnan(h.sum) or q < 0.5
    buckets = list(h.all_buckets())
    if not forward:
        buckets.reverse()
    rank = (q if forward else 1 - q) * h.count
    bucket = Bucket(0.0, 0.0, 0.0, False, False)
    count, position = 0.0, 0
    for position, bucket in enumerate(buckets, 1):  # noqa: B007
        count += bucket.count
        if count >= rank:
            break
    lower, upper = bucket.lower, bucket.upper
    if h.is_custom and lower == -math.inf:
        if upper <= 0:
            return Quantile(upper)
        lower = 0.0
    elif h.is_custom and upper == math.inf:
        return Quantile(lower)
    elif not h.is_custom and lower < 0 < upper:
        lower, upper = _natural_zero_bounds(h, lower, upper)
    count = min(count, h.count)
    if count < rank:
        return Quantile(math.nan, "result is NaN") if math.isnan(h.sum) else Quantile(upper)
    rank = rank - (count - bucket.count) if forward else count - rank
    rest = sum(b.count for b in buckets[position:])
    skewed = math.isnan(h.sum) and count + rest < h.count
    value = _within(lower, upper, divide(rank, bucket.count), linear=h.is_custom)
    return Quantile(value, "result is skewed higher" if skewed else None)


def _within(lower: float, upper: float, share: float, *, linear: bool) -> float:
    """The value below which `share` of a bucket's observations are."""
    if linear or lower <= 0 <= upper:
        return lower + (upper - lower) * share
    log_lower, log_upper = math.log2(abs(lower)), math.log2(abs(upper))
    if lower > 0:
        return float(2 ** (log_lower + (log_upper - log_lower) * share))
    return float(-(2 ** (log_upper + (log_lower - log_upper) * (1 - share))))


def _natural_zero_bounds(h: FloatHistogram, lower: float, upper: float) -> tuple[float, float]:
    """The bounds of the zero bucket, which ends at 0 where only the other side is populated."""
    if not h.negative and h.positive:
        return 0.0, upper
    if not h.positive and h.negative:
        return lower, 0.0
    return lower, upper


def fraction(low: float, high: float, h: FloatHistogram) -> tuple[float, bool]:
    """Share of observations between low and high, and whether there are NaN observations."""
    if h.count == 0 or math.isnan(low) or math.isnan(high):
        return math.nan, False
    if low >= high:
        return 0.0, False
    low_rank: float | None = None
    high_rank: float | None = None
    rank = count = 0.0
    buckets = list(h.all_buckets())
    position = 0
    for position, b in enumerate(buckets, 1):  # noqa: B007
        count += b.count
        lower, upper = b.lower, b.upper
        is_zero = lower <= 0 <= upper
        if is_zero:
            lower, upper = _natural_zero_bounds(h, lower, upper)
        linear = h.is_custom or is_zero
        if low_rank is None:
            low_rank = _rank_at(low, lower, upper, b.count, rank, linear=linear)
        if high_rank is None:
            high_rank = _rank_at(high, lower, upper, b.count, rank, linear=linear)
        if low_rank is not None and high_rank is not None:
            break
        rank += b.count
    has_nans = False
    if math.isnan(h.sum):
        count += sum(b.count for b in buckets[position:])
        has_nans = count < h.count
    else:
        count = h.count
    low_rank = count if low_rank is None else min(low_rank, count)
    high_rank = count if high_rank is None else min(high_rank, count)
    return (high_rank - low_rank) / h.count, has_nans


def _rank_at(
    v: float, lower: float, upper: float, count: float, rank: float, *, linear: bool
) -> float | None:
    """How many observations are up to v, None if v is behind the bucket; `rank` are before it."""
    if lower >= v:
        return rank
    if not lower < v < upper:
        return None
    if linear:
        if lower == -math.inf:
            return count
        return rank + count * (v - lower) / (upper - lower)
    log_lower, log_upper, log_v = (math.log2(abs(x)) for x in (lower, upper, v))
    if v > 0:
        share = (log_v - log_lower) / (log_upper - log_lower)
    else:
        share = 1 - (log_v - log_upper) / (log_lower - log_upper)
    return rank + count * share


def variance(h: FloatHistogram) -> float:
    """The variance, each observation taken at its bucket's arithmetic or geometric mean."""
    mean = divide(h.sum, h.count)
    total = c = 0.0
    for b in h.all_buckets():
        if h.is_custom:
            value = (b.upper + b.lower) / 2
        elif b.lower <= 0 <= b.upper:
            value = 0.0
        else:
            value = math.sqrt(b.upper * b.lower)
            if b.upper < 0:
                value = -value
        delta = value - mean
        total, c = kahan(b.count * delta * delta, total, c)
    return divide(total + c, h.count)


def text(h: FloatHistogram) -> str:
    """`{count:.., sum:.., (lower,upper]:count, ..}`, which count_values makes a label."""
    parts = [f"count:{format_g(h.count)}", f"sum:{format_g(h.sum)}"]
    zero = [h.zero_bucket()] if h.zero_count != 0 else []
    for b in [*h.negative_buckets(), *zero, *h.positive_buckets()]:
        opening = "[" if b.lower_inclusive else "("
        closing = "]" if b.upper_inclusive else ")"
        bounds = f"{format_g(b.lower)},{format_g(b.upper)}"
        parts.append(f"{opening}{bounds}{closing}:{format_g(b.count)}")
    return "{" + ", ".join(parts) + "}"


SIMPLE: dict[str, Callable[[FloatHistogram], float]] = {
    "histogram_count": lambda h: h.count,
    "histogram_sum": lambda h: h.sum,
    "histogram_avg": lambda h: divide(h.sum, h.count),
    "histogram_stdvar": variance,
    "histogram_stddev": lambda h: math.sqrt(v) if (v := variance(h)) >= 0 else math.nan,
}
"""Functions that make one float of a histogram, by name."""
