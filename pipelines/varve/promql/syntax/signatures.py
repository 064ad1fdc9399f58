"""Every PromQL function: argument and result types. The parser checks calls against it.

Source: Prometheus 3, promql/parser/functions.go, with all experimental functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from varve.promql.syntax.ast import ValueType

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Signature:
    """Types of a function's arguments and of its result.

    variadic: 0, exactly `args`. n > 0: the last of `args` may be left out or be given up to n
    times. UNLIMITED: it may be left out or be given any number of times.
    """

    name: str
    args: tuple[ValueType, ...]
    returns: ValueType = ValueType.VECTOR
    variadic: int = 0
    experimental: bool = False

    @property
    def least_args(self) -> int:
        return len(self.args) - (self.variadic != 0)

    @property
    def most_args(self) -> int | None:
        """None: no limit."""
        if self.variadic == UNLIMITED:
            return None
        return self.least_args + self.variadic if self.variadic else len(self.args)


_S, _T, _V, _M = ValueType.SCALAR, ValueType.STRING, ValueType.VECTOR, ValueType.MATRIX


def _table() -> dict[str, Signature]:
    table: dict[str, Signature] = {}

    def add(
        names: str,
        *args: ValueType,
        returns: ValueType = _V,
        variadic: int = 0,
        experimental: bool = False,
    ) -> None:
        for name in names.split():
            table[name] = Signature(name, args, returns, variadic, experimental)

    # Of each sample's value.
    add("abs ceil exp floor ln log10 log2 sgn sqrt", _V)
    add("acos acosh asin asinh atan atanh cos cosh deg rad sin sinh tan tanh", _V)
    add("clamp", _V, _S, _S)
    add("clamp_max clamp_min", _V, _S)
    add("round", _V, _S, variadic=1)
    # Of time.
    add("days_in_month day_of_month day_of_week day_of_year hour minute month year", _V, variadic=1)
    add("timestamp", _V)
    add("start_timestamp", _V, experimental=True)
    add("pi time", returns=_S)
    add("start end step range", returns=_S, experimental=True)
    # Of a window.
    add("rate increase irate delta idelta deriv changes resets", _M)
    add("avg_over_time count_over_time last_over_time max_over_time min_over_time", _M)
    add("present_over_time stddev_over_time stdvar_over_time sum_over_time absent_over_time", _M)
    add("first_over_time mad_over_time ts_of_first_over_time", _M, experimental=True)
    add("ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time", _M, experimental=True)
    add("quantile_over_time", _S, _M)
    add("predict_linear", _M, _S)
    add("double_exponential_smoothing", _M, _S, _S, experimental=True)
    # Of histograms.
    add("histogram_avg histogram_count histogram_stddev histogram_stdvar histogram_sum", _V)
    add("histogram_fraction", _S, _S, _V)
    add("histogram_quantile", _S, _V)
    add("histogram_quantiles", _V, _T, _S, _S, variadic=9, experimental=True)
    # Of labels and whole vectors.
    add("label_replace", _V, _T, _T, _T, _T)
    add("label_join", _V, _T, _T, _T, variadic=UNLIMITED)
    add("info", _V, _V, variadic=1, experimental=True)
    add("sort sort_desc absent", _V)
    add("sort_by_label sort_by_label_desc", _V, _T, variadic=UNLIMITED, experimental=True)
    # Between types.
    add("scalar", _V, returns=_S)
    add("vector", _S)
    add("max_of min_of", _S, _S, returns=_S, experimental=True)
    return table


FUNCTIONS = _table()
"""By name, which is case-sensitive."""

PARAMETRIC_AGGREGATES = {
    "topk": _S,
    "bottomk": _S,
    "quantile": _S,
    "limitk": _S,
    "limit_ratio": _S,
    "count_values": _T,
}
"""Those that take a parameter before the vector, and its type."""

AGGREGATES = frozenset(PARAMETRIC_AGGREGATES) | {
    "avg",
    "count",
    "group",
    "max",
    "min",
    "stddev",
    "stdvar",
    "sum",
}
"""Aggregation operators, in lower case; the query may write them in any."""
