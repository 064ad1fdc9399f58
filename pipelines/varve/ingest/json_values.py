"""Timestamps, numbers and tags as they are written in JSON, whatever format the object is of."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from varve.ingest.reject_reasons import Reason
from varve.model.errors import BadRecord
from varve.model.staleness import NORMAL_NAN, STALE_NAN

# Timestamps from here on are ms; below, s. 1e11 s is the year 5138, 1e11 ms is March 1973.
MILLISECONDS_FROM = 1e11
# From here on they can only be finer than ms.
TOO_FINE_FROM = 1e14
# What msgspec raises for bytes that are not the JSON it wants.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_SPECIAL = {
    "NaN": NORMAL_NAN,
    "+Inf": math.inf,
    "Inf": math.inf,
    "-Inf": -math.inf,
}
# Source: RFC 3339, section 5.6; fromisoformat alone takes more than that, and no second 60.
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,3})\d*)?(?:[Zz]|([+-]\d\d:\d\d))", re.ASCII
)
# A number as Go's strconv writes it.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_tags = msgspec.json.Decoder(dict[str, str])


def timestamp_ms(stamp: float | str) -> int:
    """ms since the epoch from s, ms (>= 1e11) or RFC 3339. What is finer is cut off: always the
    earlier ms. Raises BadRecord for what can be none of these.
    """
    if isinstance(stamp, str):
        return _moment_ms(stamp)
    size = abs(stamp)
    if size >= TOO_FINE_FROM:
        raise _too_fine(stamp)
    return math.floor(stamp if size >= MILLISECONDS_FROM else round(stamp * 1e6) / 1e3)


def milliseconds(stamps: np.ndarray) -> np.ndarray:
    """The same for many (float64 to int64)."""
    size = np.abs(stamps)
    if size.max(initial=0) >= TOO_FINE_FROM:
        raise _too_fine(stamps[size >= TOO_FINE_FROM][0])
    # A double holds µs of seconds, and no more: 1700000000.123 is a little less than it says.
    from_seconds = np.rint(stamps * 1e6) / 1e3
    return np.floor(np.where(size >= MILLISECONDS_FROM, stamps, from_seconds)).astype(np.int64)


def number(value: float | str | None) -> float:
    """The stale marker for null. Raises BadRecord for any other text than NaN, +Inf, Inf, -Inf."""
    if value is None:
        return STALE_NAN
    if isinstance(value, str):
        if value not in _SPECIAL:
            raise BadRecord(Reason.MALFORMED, f"value: {value!r} is not a number")
        return _SPECIAL[value]
    return value


def number_in_text(value: float | str) -> float:
    """A number that may be written as text, as Go writes it. Raises BadRecord."""
    if not isinstance(value, str) or value in _SPECIAL:
        return number(value)
    if not _NUMBER.fullmatch(value):
        raise BadRecord(Reason.MALFORMED, f"value: {value!r} is not a number")
    found = float(value)
    if math.isinf(found):
        raise BadRecord(Reason.MALFORMED, f"value: {value!r} is out of range")
    return found


def tags_of(raw: bytes, where: str = "tags") -> dict[str, str]:
    """An object of texts. Raises BadRecord that names the tag which is none, or comes twice."""
    try:
        tags = _tags.decode(raw)
    except NOT_JSON as err:
        raise BadRecord(Reason.MALFORMED, f"{where}: {_wrong_tag(raw) or err}") from err
    # Four quotes a tag, if none is within a text.
    if raw.count(b'"') != 4 * len(tags) and (twice := _twice(raw)):
        raise BadRecord(Reason.MALFORMED, f"{where}: {twice!r} comes twice")
    return tags


def _too_fine(stamp: float) -> BadRecord:
    return BadRecord(Reason.MALFORMED, f"timestamp: {stamp:.0f} looks like µs; send s or ms")


# Producers that write moments as text write the same one for many samples.
@lru_cache(maxsize=1_000)
def _moment_ms(text: str) -> int:
    problem = f"timestamp: {text!r} is not RFC 3339 with a time zone"
    found = _RFC_3339.fullmatch(text)
    if not found:
        raise BadRecord(Reason.MALFORMED, problem)
    day, minute, second, fraction, zone = found.groups()
    # A leap second is the first one of the next minute, as in Unix time.
    is_leap = second == "60"
    try:
        moment = dt.datetime.fromisoformat(
            f"{day}T{minute}:{'59' if is_leap else second}{zone or '+00:00'}"
        )
    except ValueError as err:
        raise BadRecord(Reason.MALFORMED, f"{problem}: {err}") from err
    whole_s = round(moment.timestamp()) + is_leap
    return whole_s * 1000 + int((fraction or "").ljust(3, "0"))


def _wrong_tag(raw: bytes) -> str | None:
    """What is wrong with tags, in a person's words; None if that is not a tag's value."""
    try:
        tags = msgspec.json.decode(raw)
    except NOT_JSON:
        return None
    if not isinstance(tags, dict):
        return f"{_kind(tags)}, not an object"
    for name, value in tags.items():
        if not isinstance(value, str):
            return f"{name!r} is {_kind(value)}, not text"
    return None


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _twice(raw: bytes) -> str | None:
    """The first name that an object has twice."""
    pairs = json.loads(raw, object_pairs_hook=lambda p: p)
    seen = set()
    for name, _ in pairs:
        if name in seen:
            return str(name)
        seen.add(name)
    return None
