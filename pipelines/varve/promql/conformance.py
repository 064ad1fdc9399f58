"""Puts the engine behind the contract of the promqltest judge (shared/promqltest/adapter.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from promqltest.adapter import (  # type: ignore[import-not-found,unused-ignore]
    NativeHistogram,
    QueryError,
    Result,
)

from varve.promql import errors
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.histogram_range_functions import in_order
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.values import Matrix, QueryResult, RangeVector
from varve.promql.evaluation.windows import points_of
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.label_table import Labels
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text
from varve.promql.syntax.tree import pin_at
from varve.promql.testing import MemoryStorage, Point

_OPTIONS = Options(limits=Limits(max_points=None, timeout_s=None))
_POSITION = re.compile(r"^\d+:\d+: parse error: ")


class Adapter:
    """Evaluates over a storage in memory of its own, which is empty at first."""

    def __init__(self) -> None:
        self._engine = Engine(MemoryStorage.empty(), _OPTIONS)
        self._storage = MemoryStorage.empty()

    def reset(self) -> None:
        self._set(MemoryStorage.empty())

    def load(self, series: Sequence[tuple[dict[str, str], list[Any]]]) -> None:
        points: list[tuple[Labels, list[Point]]] = [
            (
                tuple(sorted(labels.items())),
                [(t, _from_judge(value), start or 0) for t, value, start in samples],
            )
            for labels, samples in series
        ]
        self._set(self._storage.extended(points))

    def instant(self, expr: str, ts_ms: int) -> Result:
        try:
            return _to_judge(self._engine.instant(expr, ts_ms))
        except errors.QueryError as error:
            raise QueryError(_POSITION.sub("", str(error))) from error

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> Result:
        try:
            return _to_judge(self._engine.range(expr, start_ms, end_ms, step_ms))
        except errors.QueryError as error:
            raise QueryError(_POSITION.sub("", str(error))) from error

    def pin_at(self, expr: str, t_ms: int) -> str:
        return to_text(pin_at(parse(expr), t_ms))

    def _set(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._engine = Engine(storage, _OPTIONS)


def _from_judge(value: float | NativeHistogram) -> float | FloatHistogram:
    if not isinstance(value, NativeHistogram):
        return value
    return FloatHistogram(
        value.schema,
        value.count,
        value.sum,
        value.zero_threshold,
        value.zero_count,
        {i: n for i, n in value.positive.items() if n != 0},
        {i: n for i, n in value.negative.items() if n != 0},
        tuple(value.custom_values),
        value.counter_reset_hint,
    )


def _value_to_judge(value: float | FloatHistogram) -> float | NativeHistogram:
    if not isinstance(value, FloatHistogram):
        return float(value)
    return NativeHistogram(
        value.schema,
        value.count,
        value.sum,
        value.zero_threshold,
        value.zero_count,
        value.positive,
        value.negative,
        value.custom_values,
        value.hint,
    )


def _to_judge(result: QueryResult) -> Result:
    value: Any = result.value
    if isinstance(value, Matrix):
        value = _matrix_to_judge(result, value)
    elif isinstance(value, RangeVector):
        value = _range_vector_to_judge(result, value)
    return Result(result.kind, value, result.warnings, result.infos)


def _matrix_to_judge(result: QueryResult, matrix: Matrix) -> list[Any]:
    labels = matrix.labels.labels()
    times = result.times.tolist()

    def value_at(row: int, step: int) -> float | NativeHistogram:
        if matrix.histograms is not None and matrix.histograms[row, step] is not None:
            return _value_to_judge(matrix.histograms[row, step])
        return float(matrix.values[row, step])

    if result.kind == "vector":
        return [(dict(labels[row]), times[0], value_at(row, 0)) for row in result.order.tolist()]
    return [
        (
            dict(labels[row]),
            [(times[s], value_at(row, s)) for s in np.flatnonzero(matrix.present[row]).tolist()],
        )
        for row in result.order.tolist()
    ]


def _range_vector_to_judge(result: QueryResult, vector: RangeVector) -> list[Any]:
    labels = vector.labels.labels()
    series = []
    for row in result.order.tolist():
        points = [(t, _value_to_judge(v)) for t, v, _ in in_order(points_of(vector, row))]
        if points:
            series.append((dict(labels[row]), points))
    return series
