"""Numbers by which kernels know range functions and aggregations."""

from __future__ import annotations

from typing import Final

# Functions of a row, which make one value a step of a series' samples.
LOOKBACK: Final = 0
"""An instant selector: the last sample of the window, unless it is a stale marker."""
TIMESTAMP: Final = 1
"""An instant selector under timestamp(): the same sample's time in seconds."""
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

# Aggregations, which make one value a group and step.
AGG_SUM: Final = 0
AGG_AVG: Final = 1
AGG_COUNT: Final = 2
AGG_MIN: Final = 3
AGG_MAX: Final = 4
AGG_GROUP: Final = 5
AGG_STDDEV: Final = 6
AGG_STDVAR: Final = 7
