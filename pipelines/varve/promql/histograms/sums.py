"""Adds up many native histograms, with compensation, and takes their mean.

Source: Prometheus, model/histogram/float_histogram.go, KahanAdd; promql/functions.go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from varve.promql.histograms.native_histogram import (
    Buckets,
    FloatHistogram,
    aligned,
    combined_hint,
    exponential_bound,
    with_bounds,
)


class HistogramSum:
    """A running sum of histograms. Each count is compensated as in Neumaier's sum."""

    def __init__(self, first: FloatHistogram) -> None:
        self.total = first
        self.compensation = _zeros(first)
        self.reconciled = False

    def copy(self) -> HistogramSum:
        """An independent sum in the same state."""
        twin = HistogramSum(self.total)
        twin.compensation = self.compensation
        twin.reconciled = self.reconciled
        return twin

    def add(self, other: FloatHistogram) -> None:
        """Adds a histogram.

        Raises IncompatibleSchemasError, and changes nothing, if the kinds of buckets differ.
        """
        hint, _ = combined_hint(self.total.hint, other.hint)
        total, addend, reconciled = aligned(self.total, other)
        c = _like(self.compensation, total)
        count, c_count = kahan(addend.count, total.count, c.count)
        sum_, c_sum = kahan(addend.sum, total.sum, c.sum)
        zero, c_zero = kahan(addend.zero_count, total.zero_count, c.zero_count)
        positive, c_positive = _add_buckets(addend.positive, total.positive, c.positive)
        negative, c_negative = _add_buckets(addend.negative, total.negative, c.negative)
        self.total = replace(
            total,
            count=count,
            sum=sum_,
            zero_count=zero,
            positive=positive,
            negative=negative,
            hint=hint,
        )
        self.compensation = replace(
            c,
            count=c_count,
            sum=c_sum,
            zero_count=c_zero,
            positive=c_positive,
            negative=c_negative,
        )
        self.reconciled |= reconciled

    def scale(self, factor: float) -> None:
        self.total = self.total.scaled(factor)
        self.compensation = self.compensation.scaled(factor)

    def divide(self, divisor: float) -> None:
        self.total = self.total.divided(divisor)
        self.compensation = self.compensation.divided(divisor)

    def result(self, divisor: float = 1.0) -> FloatHistogram:
        """The sum over `divisor`."""
        total, c = self.total, self.compensation
        if divisor != 1.0:
            total, c = total.divided(divisor), c.divided(divisor)
        return replace(
            total,
            count=_with(total.count, c.count),
            sum=_with(total.sum, c.sum),
            zero_count=_with(total.zero_count, c.zero_count),
            positive=_result_buckets(total.positive, c.positive),
            negative=_result_buckets(total.negative, c.negative),
        )


class HistogramMean:
    """A running mean: a sum until that overflows, from then on an incremental mean."""

    def __init__(self, first: FloatHistogram) -> None:
        self._sum = HistogramSum(first)
        self._count = 1
        self._incremental = False

    @property
    def reconciled(self) -> bool:
        return self._sum.reconciled

    def add(self, other: FloatHistogram) -> None:
        """Adds a histogram. Raises IncompatibleSchemasError as HistogramSum does."""
        self._count += 1
        if not self._incremental:
            attempt = self._sum.copy()
            attempt.add(other)
            if not attempt.total.has_overflow():
                self._sum = attempt
                return
            self._incremental = True
            self._sum.divide(self._count - 1)
        self._sum.scale((self._count - 1) / self._count)
        self._sum.add(other.divided(self._count))

    def result(self) -> FloatHistogram:
        return self._sum.result() if self._incremental else self._sum.result(self._count)


def hints_collide(histograms: Sequence[FloatHistogram]) -> bool:
    """Whether a counter reset and an explicit absence of one are among the hints."""
    hints = {h.hint for h in histograms}
    return "reset" in hints and "not_reset" in hints


def kahan(increment: float, total: float, compensation: float) -> tuple[float, float]:
    """(total, compensation) after adding `increment`."""
    t = total + increment
    if math.isinf(t):
        return t, 0.0
    if abs(total) >= abs(increment):
        return t, compensation + ((total - t) + increment)
    return t, compensation + ((increment - t) + total)


def _with(total: float, compensation: float) -> float:
    return total if math.isinf(total) else total + compensation


def _add_buckets(
    addend: Buckets, total: Buckets, compensation: Buckets
) -> tuple[dict[int, float], dict[int, float]]:
    totals, compensations = dict(total), dict(compensation)
    for i, n in addend.items():
        totals[i], compensations[i] = kahan(n, totals.get(i, 0.0), compensations.get(i, 0.0))
    return totals, compensations


def _result_buckets(total: Buckets, compensation: Buckets) -> dict[int, float]:
    merged = {i: _with(n, compensation.get(i, 0.0)) for i, n in total.items()}
    return {i: n for i, n in merged.items() if n != 0}


def _zeros(h: FloatHistogram) -> FloatHistogram:
    return replace(h, count=0.0, sum=0.0, zero_count=0.0, positive={}, negative={})


def _like(c: FloatHistogram, total: FloatHistogram) -> FloatHistogram:
    """The compensations `c` in the layout of `total`, which is the same or coarser."""
    if total.is_custom:
        if c.custom_values == total.custom_values:
            return c
        return with_bounds(c, total.custom_values)
    if c.zero_threshold != total.zero_threshold:
        threshold = total.zero_threshold
        inside = [
            {i for i in side if exponential_bound(i - 1, c.schema) < threshold}
            for side in (c.positive, c.negative)
        ]
        c = replace(
            c,
            zero_threshold=threshold,
            zero_count=c.zero_count
            + sum(c.positive[i] for i in inside[0])
            + sum(c.negative[i] for i in inside[1]),
            positive={i: n for i, n in c.positive.items() if i not in inside[0]},
            negative={i: n for i, n in c.negative.items() if i not in inside[1]},
        )
    return c.to_schema(total.schema)
