"""Cuts a native histogram to the observations up to a value, or from a value on.

The sum of what stays is estimated from the middle of each kept part of a bucket: the arithmetic
one for custom and zero buckets, the geometric one for exponential buckets.
Source: Prometheus, model/histogram/float_histogram.go, TrimBuckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from varve.promql.histograms.native_histogram import Bucket, Buckets, FloatHistogram


@dataclass(frozen=True, slots=True)
class _Kept:
    """How many observations of a bucket stay, and the value that the sum takes for each."""

    count: float
    middle: float


def trim(h: FloatHistogram, at: float, *, keep_below: bool) -> FloatHistogram:
    """`h` with the observations up to `at`, or from `at` on. A cut bucket is interpolated."""
    trimmer = _Trimmer(h, at, keep_below=keep_below)
    positive = trimmer.side(h.positive, positive=True)
    negative = trimmer.side(h.negative, positive=False)
    zero_count = trimmer.zero() if h.zero_count > 0 else h.zero_count
    if not trimmer.changed:
        return h
    return replace(
        h,
        count=trimmer.count,
        sum=trimmer.sum,
        zero_count=zero_count,
        positive=positive,
        negative=negative,
    )


class _Trimmer:
    def __init__(self, h: FloatHistogram, at: float, *, keep_below: bool) -> None:
        self.h = h
        self.at = at
        self.keep_below = keep_below
        self.count = 0.0
        self.sum = 0.0
        self.changed = False

    def side(self, buckets: Buckets, *, positive: bool) -> dict[int, float]:
        """The buckets that stay of one side."""
        kept_buckets: dict[int, float] = {}
        for index, count in sorted(buckets.items()):
            if count == 0:
                continue
            kept = self._kept(self.h.bucket(index, count, positive=positive), positive=positive)
            self._add(kept, count)
            if kept.count != 0:
                kept_buckets[index] = kept.count
        return kept_buckets

    def zero(self) -> float:
        """The count that stays of the zero bucket. It ends at 0 if only one side is populated."""
        zero = self.h.zero_bucket()
        lower, upper = zero.lower, zero.upper
        has_positive = any(self.h.positive.values())
        has_negative = any(self.h.negative.values())
        if has_negative and not has_positive:
            upper = 0.0
        if has_positive and not has_negative:
            lower = 0.0
        low, high = (lower, self.at) if self.keep_below else (self.at, upper)
        if (self.at >= upper) if self.keep_below else (self.at <= lower):
            kept = _Kept(zero.count, (lower + upper) / 2)
        elif (self.at <= lower) if self.keep_below else (self.at >= upper):
            kept = _Kept(0.0, 0.0)
        else:
            kept = _Kept(zero.count * ((high - low) / (upper - lower)), (low + high) / 2)
        self._add(kept, zero.count)
        return kept.count

    def _add(self, kept: _Kept, before: float) -> None:
        self.changed |= kept.count != before
        self.count += kept.count
        self.sum += kept.middle * kept.count

    def _kept(self, b: Bucket, *, positive: bool) -> _Kept:
        at, linear = self.at, self.h.is_custom
        if (b.upper <= at) if self.keep_below else (b.lower >= at):
            return _Kept(b.count, _middle(b.lower, b.upper, positive=positive, linear=linear))
        if not (b.lower < at if self.keep_below else b.upper > at):
            return _Kept(0.0, 0.0)
        if math.isinf(b.lower) or math.isinf(b.upper):
            return self._of_infinite(b)
        below = _count_below(b, at, positive=positive, linear=linear)
        if self.keep_below:
            return _Kept(below, _middle(b.lower, at, positive=positive, linear=linear))
        above = b.count - below
        return _Kept(above, _middle(at, b.upper, positive=positive, linear=linear))

    def _of_infinite(self, b: Bucket) -> _Kept:
        """What stays of a cut bucket with an infinite bound, in which observations may be anywhere.

        Only a bucket up to a positive bound is taken to start at 0, as in classic histograms.
        """
        at = self.at
        if b.lower == -math.inf:
            from_zero = b.upper > 0 and b.upper != math.inf
            if self.keep_below:
                if at > 0 and from_zero:
                    return _Kept(b.count * at / b.upper, at / 2)
                return _Kept(b.count, at) if b.upper <= 0 else _Kept(0.0, 0.0)
            if at == -math.inf:
                return _Kept(b.count, 0.0)
            if at >= 0 and from_zero:
                return _Kept(b.count * (1 - at / b.upper), (at + b.upper) / 2)
            return _Kept(0.0, 0.0)
        if not self.keep_below and at >= b.lower:
            return _Kept(b.count, at)
        return _Kept(0.0, 0.0)


def _count_below(b: Bucket, at: float, *, positive: bool, linear: bool) -> float:
    """How many observations of a finite bucket are up to `at`, which is inside it."""
    if linear:
        return b.count * ((at - b.lower) / (b.upper - b.lower))
    log_lower, log_upper, log_at = (math.log2(abs(x)) for x in (b.lower, b.upper, at))
    if positive:
        return b.count * ((log_at - log_lower) / (log_upper - log_lower))
    return b.count * (1 - (log_at - log_upper) / (log_lower - log_upper))


def _middle(lower: float, upper: float, *, positive: bool, linear: bool) -> float:
    if math.isinf(lower):
        if math.isinf(upper):
            return 0.0
        return upper / 2 if upper > 0 else upper
    if math.isinf(upper):
        return lower
    if linear:
        return (lower + upper) / 2
    middle = math.sqrt(abs(lower * upper))
    return middle if positive else -middle
