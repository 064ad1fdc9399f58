"""Native histograms with exponential or custom buckets, their layouts and arithmetic.

Source: Prometheus, model/histogram/float_histogram.go and generic.go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

CUSTOM_BUCKETS: Final = -53
"""The schema of histograms with custom buckets."""

ResetHint = Literal["unknown", "reset", "not_reset", "gauge"]
Buckets = Mapping[int, float]


class IncompatibleSchemasError(Exception):
    """One histogram has exponential buckets and the other custom ones."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket from `lower` to `upper`, and how many observations are in it."""

    lower: float
    upper: float
    count: float
    lower_inclusive: bool
    upper_inclusive: bool


@dataclass(frozen=True, slots=True)
class FloatHistogram:
    """An immutable histogram of float counts.

    Bucket i of `positive` counts (base**(i-1), base**i] with base = 2**(2**-schema); `negative`
    mirrors it, and zero_count counts [-zero_threshold, zero_threshold]. With custom buckets,
    bucket i counts (custom_values[i-1], custom_values[i]], the outermost bounds being -Inf and
    +Inf. An absent bucket and one that counts 0 are the same.
    """

    schema: int = 0
    count: float = 0.0
    sum: float = 0.0
    zero_threshold: float = 0.0
    zero_count: float = 0.0
    positive: Buckets = field(default_factory=dict)
    negative: Buckets = field(default_factory=dict)
    custom_values: tuple[float, ...] = ()
    hint: ResetHint = "unknown"

    def __hash__(self) -> int:
        return hash((self.schema, self.count, self.sum))

    @property
    def is_custom(self) -> bool:
        return self.schema == CUSTOM_BUCKETS

    def with_hint(self, hint: ResetHint) -> FloatHistogram:
        return self if hint == self.hint else replace(self, hint=hint)

    def equals(self, other: FloatHistogram) -> bool:
        """Whether all but the hint is the same. NaN equals NaN: data is compared, not numbers."""
        return (
            self.schema == other.schema
            and _same(self.count, other.count)
            and _same(self.sum, other.sum)
            and self.zero_threshold == other.zero_threshold
            and _same(self.zero_count, other.zero_count)
            and self.custom_values == other.custom_values
            and _same_buckets(self.positive, other.positive)
            and _same_buckets(self.negative, other.negative)
        )

    def scaled(self, factor: float) -> FloatHistogram:
        """Every count and the sum times `factor`. The result is a gauge if that is negative."""
        return replace(
            self,
            count=self.count * factor,
            sum=self.sum * factor,
            zero_count=self.zero_count * factor,
            positive={i: n * factor for i, n in self.positive.items()},
            negative={i: n * factor for i, n in self.negative.items()},
            hint="gauge" if factor < 0 else self.hint,
        )

    def divided(self, divisor: float) -> FloatHistogram:
        """Every count and the sum divided by `divisor`. No bucket is left if that is zero."""
        none = divisor == 0
        return replace(
            self,
            count=divide(self.count, divisor),
            sum=divide(self.sum, divisor),
            zero_count=divide(self.zero_count, divisor),
            positive={} if none else {i: n / divisor for i, n in self.positive.items()},
            negative={} if none else {i: n / divisor for i, n in self.negative.items()},
            hint="gauge" if divisor < 0 else self.hint,
        )

    def to_schema(self, schema: int) -> FloatHistogram:
        """The same observations at a resolution not finer than this one's."""
        if schema == self.schema:
            return self
        shift = self.schema - schema
        return replace(
            self,
            schema=schema,
            positive=_coarser(self.positive, shift),
            negative=_coarser(self.negative, shift),
        )

    def has_overflow(self) -> bool:
        counts = [self.count, self.sum, self.zero_count]
        counts += [*self.positive.values(), *self.negative.values()]
        return any(math.isinf(n) for n in counts)

    def positive_buckets(self) -> list[Bucket]:
        """The positive buckets, ascending, less those that count 0."""
        return [
            self.bucket(i, n, positive=True) for i, n in sorted(self.positive.items()) if n != 0
        ]

    def negative_buckets(self) -> list[Bucket]:
        """The negative buckets, ascending, less those that count 0."""
        return [
            self.bucket(i, n, positive=False)
            for i, n in sorted(self.negative.items(), reverse=True)
            if n != 0
        ]

    def zero_bucket(self) -> Bucket:
        return Bucket(-self.zero_threshold, self.zero_threshold, self.zero_count, True, True)

    def all_buckets(self) -> Iterator[Bucket]:
        """All buckets that do not count 0, ascending; none reaches into the zero bucket."""
        for bucket in self.negative_buckets():
            if bucket.upper > -self.zero_threshold:
                yield replace(bucket, upper=-self.zero_threshold)
            else:
                yield bucket
        if self.zero_count != 0:
            yield self.zero_bucket()
        for bucket in self.positive_buckets():
            if not self.is_custom and bucket.lower < self.zero_threshold:
                yield replace(bucket, lower=self.zero_threshold)
            else:
                yield bucket

    def bucket(self, index: int, count: float, *, positive: bool) -> Bucket:
        """A positive or negative bucket by its index."""
        upper = self.upper_bound(index)
        lower = self.upper_bound(index - 1)
        if self.is_custom:
            return Bucket(lower, upper, count, index == 0, True)
        if not positive:
            lower, upper = -upper, -lower
        return Bucket(lower, upper, count, lower < 0, upper > 0)

    def upper_bound(self, index: int) -> float:
        """The upper bound of a positive bucket."""
        if self.is_custom:
            if index < 0:
                return -math.inf
            return self.custom_values[index] if index < len(self.custom_values) else math.inf
        return exponential_bound(index, self.schema)


def exponential_bound(index: int, schema: int) -> float:
    """2**(index * 2**-schema), at most the largest float."""
    if schema <= 0:
        exponent, fraction = index << -schema, 0.0
    else:
        exponent, fraction = index >> schema, (index & ((1 << schema) - 1)) / (1 << schema)
    if exponent >= 1024:
        return 1.7976931348623157e308 if exponent == 1024 and fraction == 0.0 else math.inf
    return math.ldexp(2.0**fraction, exponent)


def divide(a: float, b: float) -> float:
    """a / b as IEEE 754 has it."""
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


@dataclass(frozen=True, slots=True)
class Combined:
    """The outcome of an addition or a subtraction.

    hints_collide: one side was marked a reset and the other not one. reconciled: custom bounds
    differed, and only the common ones are left.
    """

    histogram: FloatHistogram
    hints_collide: bool
    reconciled: bool


def add(a: FloatHistogram, b: FloatHistogram, *, sign: int = 1) -> Combined:
    """a + b, or a - b with sign -1.

    Raises IncompatibleSchemasError if the kinds of buckets differ.
    """
    hint, collide = combined_hint(a.hint, b.hint)
    x, y, reconciled = aligned(a, b)
    result = replace(
        x,
        count=x.count + sign * y.count,
        sum=x.sum + sign * y.sum,
        zero_count=x.zero_count + sign * y.zero_count,
        positive=_merged(x.positive, y.positive, sign),
        negative=_merged(x.negative, y.negative, sign),
        hint=hint,
    )
    return Combined(result, collide, reconciled)


def subtract(a: FloatHistogram, b: FloatHistogram) -> Combined:
    return add(a, b, sign=-1)


def combined_hint(a: ResetHint, b: ResetHint) -> tuple[ResetHint, bool]:
    """The hint of a sum, and whether one side is a reset and the other explicitly is not."""
    if a == b:
        return a, False
    if "gauge" in (a, b):
        return "gauge", False
    return "unknown", "unknown" not in (a, b)


def aligned(a: FloatHistogram, b: FloatHistogram) -> tuple[FloatHistogram, FloatHistogram, bool]:
    """Both in the same layout, and whether custom bounds had to be reconciled for that.

    Raises IncompatibleSchemasError if one has custom buckets and the other has not.
    """
    if a.is_custom != b.is_custom:
        raise IncompatibleSchemasError
    if a.is_custom:
        if a.custom_values == b.custom_values:
            return a, b, False
        others = set(b.custom_values)
        common = tuple(bound for bound in a.custom_values if bound in others)
        return with_bounds(a, common), with_bounds(b, common), True
    while a.zero_threshold != b.zero_threshold:
        if a.zero_threshold > b.zero_threshold:
            b = with_zero_threshold(b, a.zero_threshold)
        else:
            a = with_zero_threshold(a, b.zero_threshold)
    schema = min(a.schema, b.schema)
    return a.to_schema(schema), b.to_schema(schema), False


def with_bounds(h: FloatHistogram, bounds: tuple[float, ...]) -> FloatHistogram:
    """A custom-bucket histogram with only some of its bounds."""
    buckets: dict[int, float] = {}
    for index, count in h.positive.items():
        upper = h.upper_bound(index)
        target = next((i for i, bound in enumerate(bounds) if bound >= upper), len(bounds))
        buckets[target] = buckets.get(target, 0.0) + count
    return replace(h, custom_values=bounds, positive=buckets)


def with_zero_threshold(h: FloatHistogram, threshold: float) -> FloatHistogram:
    """`h` with a zero bucket up to `threshold`, or up to the next bound if that cuts a bucket."""
    threshold = wider_threshold(h, threshold)
    inside_positive = {i for i in h.positive if exponential_bound(i - 1, h.schema) < threshold}
    inside_negative = {i for i in h.negative if exponential_bound(i - 1, h.schema) < threshold}
    zero_count = h.zero_count
    zero_count += sum(h.positive[i] for i in sorted(inside_positive))
    zero_count += sum(h.negative[i] for i in sorted(inside_negative))
    return replace(
        h,
        zero_threshold=threshold,
        zero_count=zero_count,
        positive={i: n for i, n in h.positive.items() if i not in inside_positive},
        negative={i: n for i, n in h.negative.items() if i not in inside_negative},
    )


def wider_threshold(h: FloatHistogram, threshold: float) -> float:
    """The least threshold from `threshold` on that cuts no populated bucket of `h`."""
    moved = True
    while moved:
        moved = False
        for side in (h.positive, h.negative):
            for i, n in side.items():
                lower, upper = (exponential_bound(j, h.schema) for j in (i - 1, i))
                if n != 0 and lower < threshold < upper:
                    threshold, moved = upper, True
    return threshold


def detects_reset(current: FloatHistogram, previous: FloatHistogram) -> bool:
    """Whether the counter was reset between `previous` and `current`.

    The hint of `current` decides. Without one it was reset if any population fell.
    """
    if current.hint in ("reset", "not_reset"):
        return current.hint == "reset"
    if current.count < previous.count or current.is_custom != previous.is_custom:
        return True
    if current.is_custom:
        if current.custom_values != previous.custom_values:
            current, previous, _ = aligned(current, previous)
        return _fell(current.positive, previous.positive)
    if current.schema > previous.schema or current.zero_threshold < previous.zero_threshold:
        return True
    if current.zero_threshold > previous.zero_threshold:
        if wider_threshold(previous, current.zero_threshold) != current.zero_threshold:
            return True
        previous = with_zero_threshold(previous, current.zero_threshold)
    previous = previous.to_schema(current.schema)
    return (
        current.zero_count < previous.zero_count
        or _fell(current.positive, previous.positive)
        or _fell(current.negative, previous.negative)
    )


def _fell(current: Buckets, previous: Buckets) -> bool:
    return any(n != 0 and current.get(i, 0.0) < n for i, n in previous.items())


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _same_buckets(a: Buckets, b: Buckets) -> bool:
    return all(_same(a.get(i, 0.0), b.get(i, 0.0)) for i in a.keys() | b.keys())


def _merged(a: Buckets, b: Buckets, sign: int) -> dict[int, float]:
    total = dict(a)
    for i, n in b.items():
        total[i] = total.get(i, 0.0) + sign * n
    return {i: n for i, n in total.items() if n != 0}


def _coarser(buckets: Buckets, shift: int) -> dict[int, float]:
    merged: dict[int, float] = {}
    for i, n in sorted(buckets.items()):
        target = ((i - 1) >> shift) + 1
        merged[target] = merged.get(target, 0.0) + n
    return merged
