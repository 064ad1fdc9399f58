"""Numbers by which kernels know range functions and aggregations."""

from __future__ import annotations

from typing import Final

# Functions of a row: one series' samples to one value a step.
LOOKBACK: Final = 0
"""An instant selector: the last sample of the window, unless it is a stale marker."""
TIMESTAMP: Final = 1
"""Like LOOKBACK, but that sample's time in seconds."""
RATE: Final = 2
INCREASE: Final = 3
DELTA: Final = 4
IRATE: Final = 5
IDELTA: Final = 6
SUM: Final = 10
AVG: Final = 11
COUNT: Final = 12
MIN: Final = 13
MAX: Final = 14
FIRST: Final = 15
LAST: Final = 16
STDDEV: Final = 17
STDVAR: Final = 18
PRESENT: Final = 19
CHANGES: Final = 20
RESETS: Final = 21
TS_OF_FIRST: Final = 22
TS_OF_LAST: Final = 23
TS_OF_MIN: Final = 24
TS_OF_MAX: Final = 25
QUANTILE: Final = 30
MAD: Final = 31
DERIV: Final = 40
PREDICT_LINEAR: Final = 41
DOUBLE_EXPONENTIAL_SMOOTHING: Final = 42

RANGE_FUNCTIONS: Final = {
    "rate": RATE,
    "increase": INCREASE,
    "delta": DELTA,
    "irate": IRATE,
    "idelta": IDELTA,
    "sum_over_time": SUM,
    "avg_over_time": AVG,
    "count_over_time": COUNT,
    "min_over_time": MIN,
    "max_over_time": MAX,
    "first_over_time": FIRST,
    "last_over_time": LAST,
    "stddev_over_time": STDDEV,
    "stdvar_over_time": STDVAR,
    "present_over_time": PRESENT,
    "absent_over_time": PRESENT,
    "changes": CHANGES,
    "resets": RESETS,
    "ts_of_first_over_time": TS_OF_FIRST,
    "ts_of_last_over_time": TS_OF_LAST,
    "ts_of_min_over_time": TS_OF_MIN,
    "ts_of_max_over_time": TS_OF_MAX,
    "quantile_over_time": QUANTILE,
    "mad_over_time": MAD,
    "deriv": DERIV,
    "predict_linear": PREDICT_LINEAR,
    "double_exponential_smoothing": DOUBLE_EXPONENTIAL_SMOOTHING,
}

# Aggregations over series, one value a group and step.
AGG_SUM: Final = 0
AGG_AVG: Final = 1
AGG_COUNT: Final = 2
AGG_MIN: Final = 3
AGG_MAX: Final = 4
AGG_GROUP: Final = 5
AGG_STDDEV: Final = 6
AGG_STDVAR: Final = 7

AGGREGATIONS: Final = {
    "sum": AGG_SUM,
    "avg": AGG_AVG,
    "count": AGG_COUNT,
    "min": AGG_MIN,
    "max": AGG_MAX,
    "group": AGG_GROUP,
    "stddev": AGG_STDDEV,
    "stdvar": AGG_STDVAR,
}
