"""Histograms of OTLP: explicit bounds and exponential ones, as amounts and as Prometheus has them.

Source: Prometheus, storage/remote/otlptranslator/prometheusremotewrite/histograms.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
)

from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram

_FINEST, _COARSEST = 8, -4
_ZERO_THRESHOLD = 1e-128
_MOST_BUCKETS = 20_000


class InvalidPoint(ValueError):
    """A point contradicts itself; the text says how."""


@dataclass(frozen=True, slots=True)
class Explicit:
    """Observations by explicit bounds. counts: of each bucket, the last reaching to infinity."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum: float | None

    @classmethod
    def of(cls, point: HistogramDataPoint) -> Explicit:
        """Raises InvalidPoint."""
        bounds, counts = tuple(point.explicit_bounds), tuple(point.bucket_counts)
        if len(bounds) > _MOST_BUCKETS:
            raise InvalidPoint(f"{len(bounds):,} bounds, over {_MOST_BUCKETS:,}")
        return cls(bounds, counts, point.count, point.sum if point.HasField("sum") else None)

    def plus(self, other: Explicit) -> Explicit | None:
        if self.bounds != other.bounds or len(self.counts) != len(other.counts):
            return None
        total = None if self.sum is None or other.sum is None else self.sum + other.sum
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Explicit(self.bounds, counts, self.count + other.count, total)

    def cumulative(self) -> list[tuple[float, int]]:
        """Each finite bucket's bound, and how many observations are not over it."""
        found, total = [], 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            total += count
            found.append((bound, total))
        return found

    def as_custom(self) -> FloatHistogram:
        """A native histogram with custom buckets."""
        positive = {n: float(count) for n, count in enumerate(self.counts) if count}
        return FloatHistogram(
            CUSTOM_BUCKETS,
            float(self.count),
            self.sum or 0.0,
            positive=positive,
            custom_values=self.bounds,
        )


@dataclass(frozen=True, slots=True)
class Exponential:
    """Observations by exponential buckets, index i of scale s being (2**(i/2**s), 2**((i+1)/2**s)].
    The scale is at most 8.
    """

    scale: int
    count: int
    sum: float
    zero_count: int
    positive: Mapping[int, int]
    negative: Mapping[int, int]

    @classmethod
    def of(cls, point: ExponentialHistogramDataPoint) -> Exponential:
        """Raises InvalidPoint."""
        if point.scale < _COARSEST:
            raise InvalidPoint(f"scale {point.scale} is below {_COARSEST}")
        for side in (point.positive, point.negative):
            if len(side.bucket_counts) > _MOST_BUCKETS:
                raise InvalidPoint(f"{len(side.bucket_counts):,} buckets, over {_MOST_BUCKETS:,}")
        positive, negative = (
            {side.offset + n: count for n, count in enumerate(side.bucket_counts) if count}
            for side in (point.positive, point.negative)
        )
        found = cls(point.scale, point.count, point.sum, point.zero_count, positive, negative)
        return found.to_scale(min(point.scale, _FINEST))

    def to_scale(self, scale: int) -> Exponential:
        """The same observations in the buckets of a coarser scale."""
        down = self.scale - scale
        if not down:
            return self
        sides: list[dict[int, int]] = []
        for side in (self.positive, self.negative):
            found: dict[int, int] = {}
            for index, count in side.items():
                found[index >> down] = found.get(index >> down, 0) + count
            sides.append(found)
        return Exponential(scale, self.count, self.sum, self.zero_count, *sides)

    def plus(self, other: Exponential) -> Exponential:
        scale = min(self.scale, other.scale)
        left, right = self.to_scale(scale), other.to_scale(scale)
        sides = [
            {i: a.get(i, 0) + b.get(i, 0) for i in {*a, *b}}
            for a, b in ((left.positive, right.positive), (left.negative, right.negative))
        ]
        zeros = left.zero_count + right.zero_count
        return Exponential(scale, left.count + right.count, left.sum + right.sum, zeros, *sides)

    def as_native(self) -> FloatHistogram:
        """The native histogram, whose bucket i reaches to 2**(i/2**s)."""
        positive, negative = (
            {index + 1: float(count) for index, count in side.items()}
            for side in (self.positive, self.negative)
        )
        return FloatHistogram(
            self.scale,
            float(self.count),
            self.sum,
            _ZERO_THRESHOLD,
            float(self.zero_count),
            positive,
            negative,
        )
