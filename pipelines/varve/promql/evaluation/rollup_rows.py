"""Evaluates functions of windows over rows of rollups: kernels take the columns they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.limits import Budget
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Scalar
from varve.promql.kernels.codes import QUANTILE
from varve.promql.kernels.rollup_quantiles import evaluate_sketches
from varve.promql.kernels.rollup_rows import INTEGERS, RowColumns
from varve.promql.kernels.rollups import evaluate_rollups
from varve.promql.storage import RollupRows, Rollups

_NO_INTEGERS, _NO_FLOATS = np.zeros(0, np.int64), np.zeros(0)


@dataclass(frozen=True, slots=True)
class RollupValues:
    """A function's values, (series x step), for some series of a selection, and where there are
    any. touched: rows, each counted once for every range that it is in.
    """

    series: Int64s
    values: Float64s
    present: Bools
    touched: int


def rollup_values(
    budget: Budget, function: int, rollups: Rollups, parameter: Scalar, steps: int
) -> Iterator[RollupValues]:
    """Computes a function (kernels.codes) block by block, for the series that have any rows.

    parameter: a value a step, for quantile_over_time. Where all steps look at one time, as with @,
    the rollups have one range for all of them.
    """
    for rows in rollups.blocks(steps, budget.check_running):
        budget.check_running()
        starts, ends = rows.range_starts, rows.range_ends
        if len(ends) != steps:
            starts, ends = np.repeat(starts, steps), np.repeat(ends, steps)
        shape = (len(rows.series), steps)
        values, present = np.empty(shape), np.empty(shape, dtype=np.bool_)
        touched = _evaluate(function, rows, starts, ends, parameter, values, present)
        budget.samples_touched += touched
        yield RollupValues(rows.series, values, present, touched)


def fill_from_rollups(
    budget: Budget,
    function: int,
    rollups: Rollups,
    parameter: Scalar,
    values: Float64s,
    present: Bools,
) -> int:
    """Computes a function into values and present of the series that have rows; returns how many
    were touched. What samples gave is there before.
    """
    touched = 0
    for block in rollup_values(budget, function, rollups, parameter, values.shape[1]):
        values[block.series], present[block.series] = block.values, block.present
        touched += block.touched
    return touched


def clear(values: Float64s, present: Bools) -> None:
    """No series has a value."""
    present[:] = False
    values[:] = 0.0


def _evaluate(
    function: int,
    rows: RollupRows,
    starts: Int64s,
    ends: Int64s,
    parameter: Scalar,
    values: Float64s,
    present: Bools,
) -> int:
    columns: Mapping[str, npt.NDArray[Any]] = {"end": rows.end, **rows.columns}
    if function == QUANTILE and rows.sketches is not None:
        return evaluate_sketches(
            columns["end"],
            columns["count"],
            columns["nan_count"],
            columns["min"],
            columns["max"],
            rows.sketches.begins,
            rows.sketches.ends,
            rows.sketches.keys,
            rows.sketches.counts,
            rows.begins,
            rows.ends,
            starts,
            ends,
            parameter,
            values,
            present,
        )
    given = [
        columns.get(name, _NO_INTEGERS if name in INTEGERS else _NO_FLOATS)
        for name in RowColumns._fields
    ]
    evaluate: Callable[..., int] = evaluate_rollups
    return evaluate(function, *given, rows.begins, rows.ends, starts, ends, values, present)
