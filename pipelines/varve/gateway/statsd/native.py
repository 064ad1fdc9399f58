"""Observations as a native histogram, of a resolution that falls when there are many buckets.

Source: Prometheus, client_golang, histogram.go: NativeHistogramBucketFactor and MaxBucketNumber.
"""

from __future__ import annotations

import bisect
import math

from varve.promql.histograms.native_histogram import FloatHistogram, exponential_bound

_FINEST, _COARSEST = 3, -4
"""Schemas: buckets grow by 9 % each, or by 65,536 times."""
_MOST_BUCKETS = 160
_ZERO_THRESHOLD = 2.0**-128
# Bounds of the buckets of one power of two, in halves as math.frexp has it.
_BOUNDS = {
    schema: [exponential_bound(n, schema) / 2 for n in range(1 << schema)]
    for schema in range(1, _FINEST + 1)
}


class NativeObservations:
    """Observations so far. Their count is exact at every resolution."""

    __slots__ = ("_count", "_negative", "_positive", "_schema", "_sum", "_zeros")

    def __init__(self) -> None:
        self._schema = _FINEST
        self._count = self._zeros = 0
        self._sum = 0.0
        self._positive: dict[int, int] = {}
        self._negative: dict[int, int] = {}

    def observe(self, value: float, times: int) -> None:
        """value: finite."""
        if not times:
            return
        self._count += times
        self._sum += value * times
        size = abs(value)
        if size <= _ZERO_THRESHOLD:
            self._zeros += times
            return
        side = self._positive if value > 0 else self._negative
        index = bucket_of(size, self._schema)
        side[index] = side.get(index, 0) + times
        while len(self._positive) + len(self._negative) > _MOST_BUCKETS:
            if self._schema == _COARSEST:
                break
            self._schema -= 1
            self._positive, self._negative = map(_halved, (self._positive, self._negative))

    def histogram(self) -> FloatHistogram:
        """All of them, since the first."""
        return FloatHistogram(
            self._schema,
            float(self._count),
            self._sum,
            _ZERO_THRESHOLD,
            float(self._zeros),
            {index: float(count) for index, count in self._positive.items()},
            {index: float(count) for index, count in self._negative.items()},
        )


def bucket_of(size: float, schema: int) -> int:
    """The index of the bucket that a number over 0 is in: the least whose bound is not below it.

    >>> bucket_of(8.0, 0), bucket_of(8.1, 0), bucket_of(1.0, 3), bucket_of(1.1, 3)
    (3, 4, 0, 2)
    """
    mantissa, exponent = math.frexp(size)
    if schema > 0:
        return bisect.bisect_left(_BOUNDS[schema], mantissa) + ((exponent - 1) << schema)
    index = exponent - (mantissa == 0.5)
    return -((-index) >> -schema)


def _halved(buckets: dict[int, int]) -> dict[int, int]:
    """The buckets of half the resolution."""
    found: dict[int, int] = {}
    for index, count in buckets.items():
        wider = (index + 1) >> 1
        found[wider] = found.get(wider, 0) + count
    return found
