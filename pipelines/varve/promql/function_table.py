"""The one table of PromQL's functions and aggregations.

The parser checks calls against it; the planner and the evaluation find in it what runs; the query
service reads from it what a tier answers; docs/functions.md, docs/tiers.md and the completion of
the page (api/static/functions.js) are written from it by `make functions`.

A new function is an entry here and an implementation: in a module of `functions` if it takes
vectors and scalars; in `kernels` if it takes a range vector, and in
`evaluation.histogram_range_functions`, too, unless it leaves native histograms out. A function
that rollups can answer is computed of them in `kernels.rollups`. A test walks over all of it.

Source: Prometheus 3, promql/parser/functions.go and lex.go, with all experimental functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from varve.promql.kernels import codes
from varve.promql.signatures import (
    UNLIMITED,
    Accuracy,
    Aggregation,
    Family,
    Function,
    TierAnswer,
    Trait,
    ValueType,
)

_S, _T, _V, _M = ValueType.SCALAR, ValueType.STRING, ValueType.VECTOR, ValueType.MATRIX
_EXPERIMENTAL, _FLOATS_ONLY = Trait.EXPERIMENTAL, Trait.FLOATS_ONLY
_AS_ARGUMENTS = TierAnswer(Accuracy.AS_ARGUMENTS)
_RAW_ONLY = TierAnswer(Accuracy.RAW_ONLY)


def _exact(*columns: str) -> TierAnswer:
    return TierAnswer(Accuracy.EXACT, columns)


def _rounded(*columns: str) -> TierAnswer:
    return TierAnswer(Accuracy.ROUNDED, columns)


Types = tuple[ValueType, ...]


def _function(
    family: Family,
    name: str,
    args: Types,
    text: str,
    *,
    returns: ValueType = _V,
    variadic: int = 0,
    traits: Trait = Trait.NONE,
    tier: TierAnswer = _AS_ARGUMENTS,
    kernel: int | None = None,
) -> Function:
    return Function(name, family, args, returns, text, tier, variadic, traits, kernel)


# Entries are set by hand: a line of what is computed, and one of what users read.
# fmt: off


def _values() -> Iterator[Function]:
    def function(name: str, text: str, args: Types = (_V,), variadic: int = 0) -> Function:
        return _function(Family.VALUES, name, args, text, variadic=variadic)

    yield function("abs", "The absolute value.")
    yield function("acos", "The arc cosine, in radians.")
    yield function("acosh", "The inverse hyperbolic cosine.")
    yield function("asin", "The arc sine, in radians.")
    yield function("asinh", "The inverse hyperbolic sine.")
    yield function("atan", "The arc tangent, in radians.")
    yield function("atanh", "The inverse hyperbolic tangent.")
    yield function("ceil", "The value rounded up to an integer.")
    yield function("clamp", "The value, moved between two bounds.", (_V, _S, _S))
    yield function("clamp_max", "The value, at most a maximum.", (_V, _S))
    yield function("clamp_min", "The value, at least a minimum.", (_V, _S))
    yield function("cos", "The cosine of radians.")
    yield function("cosh", "The hyperbolic cosine.")
    yield function("deg", "Radians as degrees.")
    yield function("exp", "e to the power of the value.")
    yield function("floor", "The value rounded down to an integer.")
    yield function("ln", "The natural logarithm.")
    yield function("log10", "The decimal logarithm.")
    yield function("log2", "The binary logarithm.")
    yield function("rad", "Degrees as radians.")
    yield function("round",
        "The value rounded to a multiple of a number, by default 1; a tie is rounded up.",
        (_V, _S), 1)
    yield function("sgn", "1, 0 or -1, the sign of the value.")
    yield function("sin", "The sine of radians.")
    yield function("sinh", "The hyperbolic sine.")
    yield function("sqrt", "The square root.")
    yield function("tan", "The tangent of radians.")
    yield function("tanh", "The hyperbolic tangent.")


def _times() -> Iterator[Function]:
    def part(name: str, what: str) -> Function:
        text = f"{what} of a time in Unix seconds, UTC; by default of the evaluation's."
        return _function(Family.TIMES, name, (_V,), text, variadic=1, traits=Trait.STEP_DEPENDENT)

    def scalar(name: str, text: str, traits: Trait) -> Function:
        return _function(Family.TIMES, name, (), text, returns=_S, traits=traits)

    yield part("day_of_month", "The day of the month, 1 to 31,")
    yield part("day_of_week", "The day of the week, 0 for Sunday to 6,")
    yield part("day_of_year", "The day of the year, 1 to 366,")
    yield part("days_in_month", "The number of days in the month")
    yield part("hour", "The hour, 0 to 23,")
    yield part("minute", "The minute, 0 to 59,")
    yield part("month", "The month, 1 to 12,")
    yield part("year", "The year")
    yield scalar("end", "The end of the query, in Unix seconds.", _EXPERIMENTAL)
    yield scalar("range",
        "The time from the start to the end of the query, in seconds.", _EXPERIMENTAL)
    yield scalar("start", "The start of the query, in Unix seconds.", _EXPERIMENTAL)
    yield scalar("step",
        "The step of the query, in seconds; 0 for an instant query.", _EXPERIMENTAL)
    yield scalar("time", "The time of the evaluation, in Unix seconds.", Trait.STEP_DEPENDENT)
    yield _function(Family.TIMES, "timestamp", (_V,), "When the sample was taken, in Unix seconds.",
        traits=Trait.STEP_DEPENDENT, tier=_exact("last_ts", "stale_ts"))
    yield _function(Family.TIMES, "start_timestamp", (_V,),
        "Since when the sample's counter counts, in Unix seconds; 0 where that is unknown.",
        traits=_EXPERIMENTAL, tier=_RAW_ONLY)


def _windows() -> Iterator[Function]:
    def function(
        name: str, kernel: int, tier: TierAnswer, traits: Trait, text: str, args: Types = (_M,)
    ) -> Function:
        return _function(Family.WINDOWS, name, args, text, traits=traits, tier=tier, kernel=kernel)

    none, both = Trait.NONE, Trait.ANCHORED | Trait.SMOOTHED
    counter = Trait.EXPECTS_COUNTER | Trait.USES_START_TIMES | both
    ends = ("first_ts", "first_value", "last_ts", "last_value", "count")
    last_two = ("previous_value", "last_value", "count")
    total = ("sum", "sum_error", "count", "nan_count")
    spread = _rounded("m2", "base", *total)
    sketch = TierAnswer(Accuracy.SKETCHED, ("sketch", "min", "max", "count", "nan_count"))

    yield function("rate", codes.RATE, _rounded(*ends, "reset_correction"), counter,
        "The growth of a counter per second, extrapolated to the whole window.")
    yield function("increase", codes.INCREASE, _rounded(*ends, "reset_correction"), counter,
        "The growth of a counter, extrapolated to the whole window.")
    yield function("irate", codes.IRATE, _exact("previous_ts", "last_ts", *last_two),
        Trait.USES_START_TIMES,
        "The growth of a counter per second, between the last two samples.")
    yield function("resets", codes.RESETS, _exact("resets", "first_value", "last_value", "count"),
        Trait.USES_START_TIMES | Trait.ANCHORED,
        "How often a counter was reset.")
    yield function("changes", codes.CHANGES,
        _exact("changes", "first_value", "last_value", "count"), Trait.ANCHORED,
        "How often the value became another.")
    yield function("delta", codes.DELTA, _exact(*ends), both,
        "The change of a gauge, extrapolated to the whole window.")
    yield function("idelta", codes.IDELTA, _exact(*last_two), none,
        "The change of a gauge between the last two samples.")
    yield function("count_over_time", codes.COUNT, _exact("count"), none,
        "The number of samples.")
    yield function("sum_over_time", codes.SUM, _rounded(*total), none,
        "The sum of the values.")
    yield function("avg_over_time", codes.AVG, _rounded(*total), none,
        "The mean of the values.")
    yield function("min_over_time", codes.MIN, _exact("min", "count"), _FLOATS_ONLY,
        "The least value.")
    yield function("max_over_time", codes.MAX, _exact("max", "count"), _FLOATS_ONLY,
        "The greatest value.")
    yield function("stddev_over_time", codes.STDDEV, spread, _FLOATS_ONLY,
        "The standard deviation of the values.")
    yield function("stdvar_over_time", codes.STDVAR, spread, _FLOATS_ONLY,
        "The variance of the values.")
    yield function("quantile_over_time", codes.QUANTILE, sketch, _FLOATS_ONLY,
        "A quantile of the values, 0 for the least and 1 for the greatest.", (_S, _M))
    yield function("mad_over_time", codes.MAD, _RAW_ONLY, _EXPERIMENTAL | _FLOATS_ONLY,
        "The median of the distances from the median.")
    yield function("first_over_time", codes.FIRST, _exact("first_value", "count"),
        _EXPERIMENTAL | Trait.KEEPS_NAME,
        "The first sample.")
    yield function("last_over_time", codes.LAST, _exact("last_value", "count"), Trait.KEEPS_NAME,
        "The last sample.")
    yield function("present_over_time", codes.PRESENT, _exact("count"), none,
        "1 where there is a sample.")
    yield function("absent_over_time", codes.PRESENT, _exact("count"), none,
        "1 where no series has a sample, with the labels that the selector states.")
    yield function("ts_of_first_over_time", codes.TS_OF_FIRST, _exact("first_ts", "count"),
        _EXPERIMENTAL,
        "The time of the first sample, in Unix seconds.")
    yield function("ts_of_last_over_time", codes.TS_OF_LAST, _exact("last_ts", "count"),
        _EXPERIMENTAL,
        "The time of the last sample, in Unix seconds.")
    yield function("ts_of_max_over_time", codes.TS_OF_MAX, _RAW_ONLY, _EXPERIMENTAL | _FLOATS_ONLY,
        "The time of the last of the greatest values, in Unix seconds.")
    yield function("ts_of_min_over_time", codes.TS_OF_MIN, _RAW_ONLY, _EXPERIMENTAL | _FLOATS_ONLY,
        "The time of the last of the least values, in Unix seconds.")
    yield function("deriv", codes.DERIV, _RAW_ONLY, _FLOATS_ONLY,
        "The slope of the least-squares line through the samples, per second.")
    yield function("predict_linear", codes.PREDICT_LINEAR, _RAW_ONLY,
        _FLOATS_ONLY | Trait.STEP_DEPENDENT,
        "The value of the least-squares line a number of seconds from now.", (_M, _S))
    yield function("double_exponential_smoothing", codes.DOUBLE_EXPONENTIAL_SMOOTHING, _RAW_ONLY,
        _EXPERIMENTAL | _FLOATS_ONLY,
        "The value smoothed by a smoothing factor and a trend factor (Holt-Winters).",
        (_M, _S, _S))


def _histograms() -> Iterator[Function]:
    def native(name: str, text: str) -> Function:
        return _function(Family.HISTOGRAMS, name, (_V,), text, tier=_RAW_ONLY)

    yield native("histogram_count", "The number of observations in a native histogram.")
    yield native("histogram_sum", "The sum of the observations in a native histogram.")
    yield native("histogram_avg", "The mean of the observations in a native histogram.")
    yield native("histogram_stddev", "The estimated standard deviation of a native histogram.")
    yield native("histogram_stdvar", "The estimated variance of a native histogram.")
    yield _function(Family.HISTOGRAMS, "histogram_fraction", (_S, _S, _V),
        "The estimated share of observations between two values.")
    yield _function(Family.HISTOGRAMS, "histogram_quantile", (_S, _V),
        "The estimated quantile of a histogram, classic or native.")
    yield _function(Family.HISTOGRAMS, "histogram_quantiles", (_V, _T, _S, _S),
        "Several quantiles of a histogram, told apart by a label.",
        variadic=9, traits=_EXPERIMENTAL)


def _series() -> Iterator[Function]:
    def function(
        name: str, args: Types, text: str, variadic: int = 0, traits: Trait = Trait.NONE
    ) -> Function:
        return _function(Family.SERIES, name, args, text, variadic=variadic, traits=traits)

    yield function("absent", (_V,),
        "1 where the vector is empty, with the labels that the selector states.")
    yield function("info", (_V, _V),
        "Adds the labels of info series, by default target_info, by job and instance.",
        1, _EXPERIMENTAL | Trait.STEP_DEPENDENT)
    yield function("label_join", (_V, _T, _T, _T),
        "Sets a label to the values of others, joined.", UNLIMITED)
    yield function("label_replace", (_V, _T, _T, _T, _T),
        "Sets a label from parts of another one's value, where a regular expression matches it.")
    yield function("sort", (_V,),
        "The series by ascending value, in an instant query.")
    yield function("sort_desc", (_V,),
        "The series by descending value, in an instant query.")
    yield function("sort_by_label", (_V, _T),
        "The series by the values of labels, ascending in natural order, in an instant query.",
        UNLIMITED, _EXPERIMENTAL)
    yield function("sort_by_label_desc", (_V, _T),
        "The series by the values of labels, descending in natural order, in an instant query.",
        UNLIMITED, _EXPERIMENTAL)


def _scalars() -> Iterator[Function]:
    def function(
        name: str,
        args: Types,
        text: str,
        returns: ValueType = _S,
        traits: Trait = Trait.NONE,
    ) -> Function:
        return _function(Family.SCALARS, name, args, text, returns=returns, traits=traits)

    yield function("max_of", (_S, _S), "The greater of two scalars.", traits=_EXPERIMENTAL)
    yield function("min_of", (_S, _S), "The lesser of two scalars.", traits=_EXPERIMENTAL)
    yield function("pi", (), "The number pi.")
    yield function("scalar", (_V,), "The value of the only series, NaN unless there is just one.")
    yield function("vector", (_S,), "The scalar as a series without labels.", _V)


def _aggregations() -> Iterator[Aggregation]:
    yield Aggregation("sum", "The sum of the values.", None, codes.AGG_SUM)
    yield Aggregation("avg", "The mean of the values.", None, codes.AGG_AVG)
    yield Aggregation("count", "The number of series.", None, codes.AGG_COUNT)
    yield Aggregation("group", "1 for each group.", None, codes.AGG_GROUP)
    yield Aggregation("min", "The least value.", None, codes.AGG_MIN, _FLOATS_ONLY)
    yield Aggregation("max", "The greatest value.", None, codes.AGG_MAX, _FLOATS_ONLY)
    yield Aggregation("stddev", "The standard deviation of the values.", None, codes.AGG_STDDEV,
        _FLOATS_ONLY)
    yield Aggregation("stdvar", "The variance of the values.", None, codes.AGG_STDVAR,
        _FLOATS_ONLY)
    yield Aggregation("quantile", "A quantile of the values, 0 for the least, 1 for the greatest.",
        _S, None, _FLOATS_ONLY)
    yield Aggregation("count_values", "How many series have each value, which becomes a label.",
        _T)
    yield Aggregation("topk", "The k series of the greatest values.", _S, None, _FLOATS_ONLY)
    yield Aggregation("bottomk", "The k series of the least values.", _S, None, _FLOATS_ONLY)
    yield Aggregation("limitk", "Any k of the series.", _S, None, _EXPERIMENTAL)
    yield Aggregation("limit_ratio", "About a share of the series, chosen by their labels' hash.",
        _S, None, _EXPERIMENTAL)


# fmt: on


FUNCTIONS: Final[Mapping[str, Function]] = {
    entry.name: entry
    for family in (_values, _times, _windows, _histograms, _series, _scalars)
    for entry in family()
}
"""The functions by name, which is case-sensitive."""

AGGREGATIONS: Final[Mapping[str, Aggregation]] = {entry.name: entry for entry in _aggregations()}
"""The aggregations by name in lower case; a query may write it in any."""
