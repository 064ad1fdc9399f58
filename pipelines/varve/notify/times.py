"""RFC 3339, as the API and messages write times: in UTC, to the millisecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: no time at all."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
_LEAST_MS = -62135596800000
_GREATEST_MS = 253402300799999


def format_ms(at_ms: int) -> str:
    """`2026-01-05T00:00:40.500Z`; times beyond the years 1 to 9999 are cut to them."""
    at_ms = min(max(at_ms, _LEAST_MS), _GREATEST_MS)
    return f"{_format_s(at_ms // 1000)}.{at_ms % 1000:03}Z"


@lru_cache(maxsize=65_536)
def parse_ms(text: str) -> int | None:
    """ms since the Unix epoch; None for Go's zero time. Raises ValueError if it is no RFC 3339."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 time")
    moment = datetime.fromisoformat(match[1].upper() + match[3].upper().replace("Z", "+00:00"))
    if moment.year == 1 and moment == datetime(1, 1, 1, tzinfo=UTC):
        return None
    whole = (moment - _EPOCH) // timedelta(milliseconds=1)
    return whole + int((match[2] or "0").ljust(3, "0")[:3])


@lru_cache(maxsize=65_536)
def _format_s(at_s: int) -> str:
    """To the second. Alerts of a storm share their times."""
    text = (_EPOCH + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%S")
    return text.rjust(19, "0")  # strftime pads no year
