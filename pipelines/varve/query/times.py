"""Times and durations as people and Prometheus' clients write them, to Unix ms and ms.

Source: Prometheus 3, web/api/v1/api.go (parseTime, parseDuration).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from varve.promql.syntax.literals import parse_duration

MIN_TIME_MS = -(2**63) // 1_000_000
MAX_TIME_MS = 2**63 // 1_000_000

# What clients send for "no bound": the ends of Go's time.
_ENDS = {
    "-292273086-05-16T16:47:06Z": MIN_TIME_MS,
    "292277025-08-18T07:12:54.999999999Z": MAX_TIME_MS,
}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ms(text: str) -> int:
    """Reads RFC 3339 or Unix seconds; a half ms is rounded up. ValueError if it is no time."""
    if _DECIMAL.fullmatch(text):
        ms = float(text) * 1000
        if MIN_TIME_MS <= ms <= MAX_TIME_MS:
            return math.floor(ms + 0.5)
    elif match := _RFC3339.fullmatch(text):
        date, clock, fraction, zone = match.groups()
        try:
            whole = datetime.fromisoformat(f"{date}T{clock}{zone.upper()}")
        except ValueError:
            pass
        else:
            return (whole - _EPOCH) // timedelta(milliseconds=1) + int(
                (fraction or "0").ljust(3, "0")[:3]
            )
    elif text in _ENDS:
        return _ENDS[text]
    raise ValueError(f'cannot parse "{text}" to a valid timestamp')


def parse_duration_ms(text: str) -> int:
    """Reads seconds or a PromQL duration, cut to whole ms.

    ValueError if it is no duration or longer than 292 years.
    """
    if _DECIMAL.fullmatch(text):
        seconds = float(text)
        if abs(seconds) * 1e9 > 2**63:
            raise ValueError(f'cannot parse "{text}" to a valid duration. It overflows int64')
        return int(seconds * 1000)
    try:
        return int(parse_duration(text) * 1000)
    except ValueError as err:
        raise ValueError(f'cannot parse "{text}" to a valid duration') from err
