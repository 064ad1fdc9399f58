"""Functions of the calendar, in UTC: of each sample as Unix seconds, or of the step's time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.promql.context import Evaluation
from varve.promql.labels import LabelTable
from varve.promql.plan.nodes import FunctionCall
from varve.promql.values import Matrix, Steps

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


_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE = np.cumsum(_LENGTHS) - _LENGTHS


def _days_in_month(seconds: Days) -> Days:
    year, month, _ = _civil(seconds // 86_400)
    return _LENGTHS[month] + ((month == 2) & _is_leap(year))


def _day_of_year(seconds: Days) -> Days:
    year, month, day = _civil(seconds // 86_400)
    return _BEFORE[month] + day + ((month > 2) & _is_leap(year))


_PARTS: dict[str, Callable[[Days], Days]] = {
    "year": lambda seconds: _civil(seconds // 86_400)[0],
    "month": lambda seconds: _civil(seconds // 86_400)[1],
    "day_of_month": lambda seconds: _civil(seconds // 86_400)[2],
    "day_of_week": lambda seconds: (seconds // 86_400 + 4) % 7,
    "day_of_year": _day_of_year,
    "days_in_month": _days_in_month,
    "hour": lambda seconds: seconds // 3_600 % 24,
    "minute": lambda seconds: seconds // 60 % 60,
}


def _part(part: Callable[[Days], Days], ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    if not node.args:
        # Whole seconds, cut towards zero as the samples are.
        seconds = np.trunc(steps.times / 1000).astype(np.int64)
        values = part(seconds).astype(np.float64).reshape(1, -1)
        present = np.ones((1, steps.count), dtype=np.bool_)
        return Matrix(LabelTable.empty_sets(), values, present, np.zeros(1, dtype=np.bool_))
    matrix = ev.matrix(node.args[0], steps)
    with np.errstate(invalid="ignore"):
        seconds = np.trunc(matrix.values).astype(np.int64)
    return matrix.with_values(part(seconds).astype(np.float64), matrix.floats())


FUNCTIONS: dict[str, Callable[[Evaluation, FunctionCall, Steps], Any]] = {
    name: partial(_part, part) for name, part in _PARTS.items()
}
