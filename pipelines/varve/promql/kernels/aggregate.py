"""Aggregates rows into groups, those of a matrix or straight from samples.

Source: Prometheus, promql/engine.go, aggregation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from varve.model.compiled import inline, kernel
from varve.promql.kernels.codes import (
    AGG_AVG,
    AGG_COUNT,
    AGG_GROUP,
    AGG_MAX,
    AGG_MIN,
    AGG_STDDEV,
    AGG_STDVAR,
    AGG_SUM,
)
from varve.promql.kernels.kahan import kahan_sum
from varve.promql.kernels.over_time import quantile_of
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.kernels.windows import (
    AHEAD,
    SampleColumns,
    WindowQuery,
    ask_for_series,
    evaluate_row,
    is_complete,
    new_workspace,
)


@inline
def accumulate(
    op: int, row_out: F64, row_present: Bools, total: F64, c: F64, mean: F64, count: I64
) -> None:
    """Adds one series' row to the state of its group. All arrays have one element a step.

    count: series seen, negative (its complement) once AGG_AVG runs on an incremental mean.
    """
    for s in range(len(row_out)):
        if not row_present[s]:
            continue
        v = row_out[s]
        n = count[s]
        if op == AGG_SUM:
            if n == 0:
                total[s] = v
            else:
                total[s], c[s] = kahan_sum(v, total[s], c[s])
            count[s] = n + 1
        elif op in (AGG_COUNT, AGG_GROUP):
            count[s] = n + 1
        elif n == 0:
            total[s] = v
            if op in (AGG_STDDEV, AGG_STDVAR):
                mean[s] = v
                total[s] = math.nan if math.isnan(v) or math.isinf(v) else 0.0
            count[s] = 1
        elif op == AGG_MAX:
            if total[s] < v or math.isnan(total[s]):
                total[s] = v
        elif op == AGG_MIN:
            if total[s] > v or math.isnan(total[s]):
                total[s] = v
        elif op == AGG_AVG:
            add_to_average(v, total, c, mean, count, s)
        else:
            count[s] = n + 1
            delta = v - mean[s]
            mean[s] += delta / (n + 1)
            total[s] += delta * (v - mean[s])


@inline
def accumulate_sum(row_out: F64, total: F64, c: F64, count: I64) -> None:
    """`accumulate` of AGG_SUM for a row with a value at every step: it vectorises."""
    for s in range(len(row_out)):
        v, before = row_out[s], total[s]
        t = before + v
        larger, smaller = (before, v) if abs(before) >= abs(v) else (v, before)
        compensated = c[s] + ((larger - t) + smaller)
        c[s] = 0.0 if abs(t) == math.inf else compensated
        total[s] = t
        count[s] += 1


@inline
def accumulate_average(row_out: F64, total: F64, c: F64, count: I64) -> bool:
    """`accumulate` of AGG_AVG for a row with a value at every step, if no sum overflows.

    Returns whether it was done: never once a group runs on an incremental mean.
    """
    simple = True
    for s in range(len(row_out)):
        simple &= (count[s] >= 0) & (abs(total[s] + row_out[s]) < math.inf)
    if simple:
        accumulate_sum(row_out, total, c, count)
    return simple


@inline
def add_to_average(v: float, total: F64, c: F64, mean: F64, count: I64, s: int) -> None:
    """Adds to the sum, or from where that would overflow to a running mean (count < 0)."""
    n = count[s]
    if n > 0:
        new_total, new_c = kahan_sum(v, total[s], c[s])
        if not math.isinf(new_total):
            total[s], c[s] = new_total, new_c
            count[s] = n + 1
            return
        mean[s] = total[s] / n
        c[s] /= n
        n = ~n
    seen = float(~n + 1)
    q = (seen - 1.0) / seen
    mean[s], c[s] = kahan_sum(v / seen, q * mean[s], q * c[s])
    count[s] = n - 1


class GroupState(NamedTuple):
    """What is known of groups while series are added, (groups x steps); see `accumulate`.

    c and mean have one element where the aggregation needs none.
    """

    total: F64
    c: F64
    mean: F64
    counts: I64

    @classmethod
    def empty(cls, op: int, groups: int, steps: int) -> GroupState:
        shape, none = (groups, steps), (1, 1)
        return cls(
            np.zeros(shape),
            np.zeros(shape if op in (AGG_SUM, AGG_AVG) else none),
            np.zeros(shape if op in (AGG_AVG, AGG_STDDEV, AGG_STDVAR) else none),
            np.zeros(shape, np.int64),
        )


@kernel("void(int64, float64[:,::1], float64[:,::1], float64[:,::1], int64[:,::1], boolean[:,::1])")
def finish_groups(op: int, total: F64, c: F64, mean: F64, count: I64, present: Bools) -> None:
    """Turns the state of all groups into results, in `total`, and says where there are any."""
    for g in range(total.shape[0]):
        for s in range(total.shape[1]):
            n = count[g, s]
            present[g, s] = n != 0
            if n == 0:
                continue
            if op == AGG_SUM:
                total[g, s] += c[g, s]
            elif op == AGG_COUNT:
                total[g, s] = n
            elif op == AGG_GROUP:
                total[g, s] = 1.0
            elif op == AGG_AVG:
                if n < 0:
                    total[g, s] = mean[g, s] + c[g, s]
                else:
                    total[g, s] = total[g, s] / n + c[g, s] / n
            elif op == AGG_STDVAR:
                total[g, s] /= n
            elif op == AGG_STDDEV:
                total[g, s] = math.sqrt(total[g, s] / n)


@kernel(
    "void(int64, float64[:,::1], boolean[:,::1], int64[::1], float64[:,::1], float64[:,::1],"
    " float64[:,::1], int64[:,::1])"
)
def aggregate_matrix(
    op: int,
    values: F64,
    present: Bools,
    groups: I64,
    total: F64,
    c: F64,
    mean: F64,
    count: I64,
) -> None:
    """Adds (series x step) values to a GroupState. Row i belongs to group groups[i]."""
    has_c = op in (AGG_SUM, AGG_AVG)
    has_mean = op in (AGG_AVG, AGG_STDDEV, AGG_STDVAR)
    for i in range(values.shape[0]):
        g = groups[i]
        accumulate(
            op,
            values[i],
            present[i],
            total[g],
            c[g] if has_c else c[0],
            mean[g] if has_mean else mean[0],
            count[g],
        )


@kernel(
    "int64(int64, int64, const int64[::1], const float64[::1], const int64[::1],"
    " const int64[::1], const boolean[::1], int64[::1], int64[::1], int64, float64[::1],"
    " float64[::1], int64[::1], float64[:,::1], float64[:,::1], float64[:,::1], int64[:,::1])"
)
def aggregate_rows(
    op: int,
    function: int,
    ts: I64,
    values: F64,
    begins: I64,
    ends: I64,
    has_stale: Bools,
    times: I64,
    eval_times: I64,
    range_ms: int,
    first_parameter: F64,
    second_parameter: F64,
    groups: I64,
    total: F64,
    c: F64,
    mean: F64,
    count: I64,
) -> int:
    """`evaluate_rows` and `aggregate_matrix` in one pass that keeps the GroupState only.

    Returns the samples touched.
    """
    steps = len(times)
    query = WindowQuery(function, times, eval_times, range_ms, first_parameter, second_parameter)
    columns = SampleColumns(ts, values, values.view(np.int64), begins, ends, has_stale)
    workspace = new_workspace(query, columns)
    row_out = np.empty(steps)
    row_present = np.empty(steps, np.bool_)
    has_c = op in (AGG_SUM, AGG_AVG)
    has_mean = op in (AGG_AVG, AGG_STDDEV, AGG_STDVAR)
    touched = 0
    for i in range(len(begins)):
        ask_for_series(columns, i + AHEAD)
        touched += evaluate_row(query, columns, i, workspace, row_out, row_present)
        g = groups[i]
        if op in (AGG_SUM, AGG_AVG) and is_complete(function, has_stale[i], workspace.state):
            if op == AGG_SUM:
                accumulate_sum(row_out, total[g], c[g], count[g])
                continue
            if accumulate_average(row_out, total[g], c[g], count[g]):
                continue
        accumulate(
            op,
            row_out,
            row_present,
            total[g],
            c[g] if has_c else c[0],
            mean[g] if has_mean else mean[0],
            count[g],
        )
    return touched


@kernel(
    "void(float64[::1], float64[:,::1], boolean[:,::1], int64[::1], int64[::1], float64[:,::1],"
    " boolean[:,::1])"
)
def quantile_matrix(
    q: F64, values: F64, present: Bools, order: I64, indptr: I64, out: F64, out_present: Bools
) -> None:
    """The q[step]-quantile of each group's values.

    Group g has the rows order[indptr[g]:indptr[g + 1]].
    """
    scratch = np.empty(max(1, values.shape[0]))
    for g in range(len(indptr) - 1):
        for s in range(values.shape[1]):
            n = nans = 0
            for k in range(indptr[g], indptr[g + 1]):
                i = order[k]
                if not present[i, s]:
                    continue
                if math.isnan(values[i, s]):
                    nans += 1
                else:
                    scratch[n] = values[i, s]
                    n += 1
            out_present[g, s] = n + nans > 0
            if n + nans > 0:
                out[g, s] = quantile_of(q[s], scratch, n, nans)
