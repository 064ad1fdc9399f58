"""Computes parts of dates in UTC, of each sample as Unix seconds or of the step's time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.kernel_blocks import elementwise
from varve.promql.evaluation.values import Float64s, Matrix, Steps
from varve.promql.labels.label_table import LabelTable
from varve.promql.plan.nodes import FunctionCall

Days = npt.NDArray[np.int64]


def _civil(days: Days) -> tuple[Days, Days, Days]:
    """(year, month, day) of days since 1970-01-01 in the proleptic Gregorian calendar.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    """
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = np.where(shifted_month < 10, shifted_month + 3, shifted_month - 9)
    year = year_of_era + era * 400 + (month <= 2)
    return year, month, day


def _is_leap(year: Days) -> npt.NDArray[np.bool_]:
    return (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))


_LEAST_SECOND = -9_223_372_028_741_760_000
"""Where Go's calendar begins. It puts what is before, and NaN, 2**64 s later."""


def _days_and_seconds(seconds: Days) -> tuple[Days, Days]:
    """(days since 1970-01-01, seconds of the day)."""
    days, rest = np.divmod(seconds, 86_400)
    for index in np.argwhere(seconds < _LEAST_SECOND):
        place = tuple(index)
        days[place], rest[place] = divmod(int(seconds[place]) + 2**64, 86_400)
    return days, rest


_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE = np.cumsum(_LENGTHS) - _LENGTHS


def _days_in_month(days: Days) -> Days:
    year, month, _ = _civil(days)
    return _LENGTHS[month] + ((month == 2) & _is_leap(year))


def _day_of_year(days: Days) -> Days:
    year, month, day = _civil(days)
    return _BEFORE[month] + day + ((month > 2) & _is_leap(year))


Part = Callable[[Days, Days], Days]

_PARTS: dict[str, Part] = {
    "year": lambda days, _: _civil(days)[0],
    "month": lambda days, _: _civil(days)[1],
    "day_of_month": lambda days, _: _civil(days)[2],
    "day_of_week": lambda days, _: (days + 4) % 7,
    "day_of_year": lambda days, _: _day_of_year(days),
    "days_in_month": lambda days, _: _days_in_month(days),
    "hour": lambda _, seconds: seconds // 3_600,
    "minute": lambda _, seconds: seconds // 60 % 60,
}


def _part(part: Part, ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:

    def compute(seconds: Float64s) -> Float64s:
        whole = np.trunc(seconds).astype(np.int64)
        return part(*_days_and_seconds(whole)).astype(np.float64)

    if not node.args:
        values = compute(steps.times / 1000).reshape(1, -1)
        present = np.ones((1, steps.count), dtype=np.bool_)
        return Matrix(LabelTable.empty_sets(), values, present, np.zeros(1, dtype=np.bool_))
    matrix = ev.matrix(node.args[0], steps)
    with np.errstate(invalid="ignore"):
        values = elementwise(ev.check, compute, matrix.values)
    return matrix.with_values(values, matrix.float_mask())


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    name: partial(_part, part) for name, part in _PARTS.items()
}
