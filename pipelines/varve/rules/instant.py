"""The samples that rules read and write."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from varve.promql.evaluation.values import Matrix, QueryResult
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.label_table import Labels
from varve.rules.errors import RuleError

Value = float | FloatHistogram


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample to write; STALE_NAN ends the series. ts_ms: Unix ms."""

    labels: Labels
    ts_ms: int
    value: Value


@dataclass(frozen=True, slots=True)
class Element:
    """An element of an instant vector."""

    labels: Labels
    value: Value

    @property
    def number(self) -> float:
        """The value; 0 for a histogram, as upstream has it in alerts."""
        return 0.0 if isinstance(self.value, FloatHistogram) else self.value


Query = Callable[[str, int], list[Element]]
"""Answers an expression at a time in Unix ms. Raises QueryError or RuleError."""


def elements_of(result: QueryResult) -> list[Element]:
    """The answer as a vector; a scalar is an element without labels. RuleError for another type."""
    value = result.value
    if isinstance(value, float):
        return [Element((), value)]
    if not isinstance(value, Matrix) or result.kind != "vector":
        raise RuleError("rule result is not a vector or scalar")
    labels = value.labels.labels()
    found = []
    for row in result.order.tolist():
        histogram = None if value.histograms is None else value.histograms[row, 0]
        found.append(
            Element(labels[row], float(value.values[row, 0]) if histogram is None else histogram)
        )
    return found


def number_text(value: float) -> str:
    """A value as the API writes that of an alert: 1e+00."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    shown = (f"{value:.{digits}e}" for digits in range(18))
    return next(text for text in shown if float(text) == value)
