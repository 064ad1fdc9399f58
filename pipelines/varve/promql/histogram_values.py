"""What is computed of one native histogram: quantiles, fractions, moments, trimming, text.

Source: Prometheus, promql/quantile.go and engine.go (trimHistogram).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from varve.promql.go_text import format_g
from varve.promql.histogram_sums import kahan
from varve.promql.histograms import Bucket, FloatHistogram, divide

NaNNote = Literal["result is NaN", "result is skewed higher"]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile, and what NaN observations did to it if there were any."""

    value: float
    nan_note: NaNNote | None = None


def quantile(q: float, h: FloatHistogram) -> Quantile:
    """Linear within custom and zero buckets, exponential within exponential ones."""
    if q < 0:
        return Quantile(-math.inf)
    if q > 1:
        return Quantile(math.inf)
    if h.count == 0 or math.isnan(q):
        return Quantile(math.nan)
    buckets = list(h.all_buckets())
    forward = math.isnan(h.sum) or q < 0.5
    if not forward:
        buckets.reverse()
    rank = (q if forward else 1 - q) * h.count
    bucket = Bucket(0.0, 0.0, 0.0, False, False)  # noqa: FBT003
    count, position = 0.0, 0
    for position, bucket in enumerate(buckets, 1):  # noqa: B007
        count += bucket.count
        if count >= rank:
            break
    lower, upper = bucket.lower, bucket.upper
    if h.is_custom:
        if lower == -math.inf:
            if upper <= 0:
                return Quantile(upper)
            lower = 0.0
        elif upper == math.inf:
            return Quantile(lower)
    elif lower < 0 < upper:
        lower, upper = _natural_zero_bounds(h, lower, upper)
    count = min(count, h.count)
    if count < rank:
        if math.isnan(h.sum):
            return Quantile(math.nan, "result is NaN")
        return Quantile(upper)
    rank = rank - (count - bucket.count) if forward else count - rank
    note: NaNNote | None = None
    if math.isnan(h.sum) and count + sum(b.count for b in buckets[position:]) < h.count:
        note = "result is skewed higher"
    fraction = divide(rank, bucket.count)
    if h.is_custom or (lower <= 0 <= upper):
        return Quantile(lower + (upper - lower) * fraction, note)
    log_lower, log_upper = math.log2(abs(lower)), math.log2(abs(upper))
    if lower > 0:
        return Quantile(2 ** (log_lower + (log_upper - log_lower) * fraction), note)
    return Quantile(-(2 ** (log_upper + (log_lower - log_upper) * (1 - fraction))), note)


def _natural_zero_bounds(h: FloatHistogram, lower: float, upper: float) -> tuple[float, float]:
    """The zero bucket ends at 0 where only the other side is populated."""
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
        if is_zero and not h.is_custom:
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
    """Observations up to v, if v is before or within the bucket; `rank` were before the bucket."""
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
    """Of the observations, each at its bucket's mean: geometric for exponential buckets."""
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


def trim(h: FloatHistogram, at: float, *, keep_below: bool) -> FloatHistogram:
    """The observations up to `at`, or those from there on; cut buckets are interpolated."""
    kept_count = removed_sum = 0.0
    sides: list[dict[int, float]] = []
    for side, positive in ((h.positive, True), (h.negative, False)):
        kept: dict[int, float] = {}
        for index, n in sorted(side.items()):
            if n == 0:
                continue
            bucket = h._bucket(index, n, positive=positive)  # noqa: SLF001
            keep, removed_at = _trimmed(bucket, at, h.is_custom, positive, keep_below)
            kept[index] = keep
            kept_count += keep
            if keep != n or removed_at is not None:
                removed_sum += (n - keep) * (removed_at or 0.0)
        sides.append(kept)
    has_positive, has_negative = _signs(h)
    zero_count = 0.0
    if h.zero_count > 0:
        zero = h.zero_bucket()
        below = _split(zero, at, positive=True, linear=True)
        zero_count = below if keep_below else h.zero_count - below
        kept_count += zero_count
    new_sum = 0.0
    if kept_count != 0:
        new_sum = h.sum - removed_sum
        if (not has_negative and new_sum < 0) or (not has_positive and new_sum > 0):
            new_sum = 0.0
    return replace(
        h,
        count=kept_count,
        sum=new_sum,
        zero_count=zero_count,
        positive={i: n for i, n in sides[0].items() if n != 0},
        negative={i: n for i, n in sides[1].items() if n != 0},
    )


def _signs(h: FloatHistogram) -> tuple[bool, bool]:
    """Whether there are positive, and negative, observations outside the zero bucket."""
    positives, negatives = h.positive_buckets(), h.negative_buckets()
    if not h.is_custom:
        return bool(positives), bool(negatives)
    return any(b.upper > 0 for b in positives), any(b.lower < 0 for b in positives)


def _trimmed(
    b: Bucket,
    at: float,
    is_custom: bool,
    positive: bool,
    keep_below: bool,  # noqa: FBT001
) -> tuple[float, float | None]:
    """Observations of a bucket that stay, and the value that those that go are counted at."""
    keep, middle = _cut(b, at, is_custom, positive, keep_below)
    if (b.upper <= at) if keep_below else (b.lower >= at):
        return b.count, None
    if (b.lower < at) if keep_below else (b.upper > at):
        return keep, middle
    if not is_custom:
        middle = math.sqrt(b.lower * b.upper)
    return 0.0, middle


def _cut(
    b: Bucket,
    at: float,
    is_custom: bool,
    positive: bool,
    keep_below: bool,  # noqa: FBT001
) -> tuple[float, float]:
    """The kept part of a bucket cut at `at`, and the middle of what is removed."""
    if math.isinf(b.lower) or math.isinf(b.upper):
        return _cut_infinite(b, at, keep_below=keep_below)
    below = _split(b, at, positive=positive, linear=is_custom)
    if is_custom:
        middle = (b.lower + b.upper) / 2
    else:
        other = b.lower if keep_below else b.upper
        middle = math.sqrt(abs(other) * abs(at))
        if not positive:
            middle = -middle
    return (below if keep_below else b.count - below), middle


def _cut_infinite(b: Bucket, at: float, *, keep_below: bool) -> tuple[float, float]:
    """A bucket without one bound: only from 0 to a positive upper bound is anything known."""
    if b.lower == -math.inf:
        known = at >= 0 and b.upper > at and b.upper != math.inf
        if keep_below:
            if at >= b.upper:
                return b.count, 0.0
            if known:
                return b.count * at / b.upper, (at + b.upper) / 2
            return 0.0, b.upper
        if at <= b.lower:
            return b.count, 0.0
        if known:
            return b.count * (1 - at / b.upper), at / 2
        return 0.0, b.upper
    if not keep_below and at <= b.lower:
        return b.count, 0.0
    return 0.0, b.lower


def _split(b: Bucket, at: float, *, positive: bool, linear: bool) -> float:
    """Observations of the bucket up to `at`."""
    if at <= b.lower:
        return 0.0
    if at >= b.upper:
        return b.count
    if linear:
        return b.count * ((at - b.lower) / (b.upper - b.lower))
    log_lower, log_upper, log_at = (math.log2(abs(x)) for x in (b.lower, b.upper, at))
    if positive:
        return b.count * ((log_at - log_lower) / (log_upper - log_lower))
    return b.count * (1 - (log_at - log_upper) / (log_lower - log_upper))


def text(h: FloatHistogram) -> str:
    """`{count:.., sum:.., (lower,upper]:count, ..}`, as count_values labels it."""
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
"""Functions of one histogram that give one float."""
