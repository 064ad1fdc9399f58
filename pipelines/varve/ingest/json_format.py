"""Kafka JSON: one object, an array of objects, or one object a line (NDJSON).

schemas/wire/sample.schema.json says what an object is. A message is read whole in one go; only
if that fails is it taken apart, so that its good objects are stored and its bad ones named.
"""

from __future__ import annotations

import datetime as dt
import math

import msgspec
import numpy as np

from varve.ingest.block import Block, Reject
from varve.ingest.reasons import Reason
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition, define
from varve.model.staleness import NORMAL_NAN, STALE_NAN

# Timestamps from here on are ms; below, s. 1e11 s is the year 5138, 1e11 ms is March 1973.
MILLISECONDS_FROM = 1e11
# From here on they can only be finer than ms.
TOO_FINE_FROM = 1e14
# Distinct (metric, tags) texts whose identity is kept; a full cache is emptied.
CACHED_IDENTITIES = 500_000

_SPECIAL = {
    "NaN": NORMAL_NAN,
    "+Inf": math.inf,
    "Inf": math.inf,
    "-Inf": -math.inf,
}


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    metric: str
    value: float | str | None
    timestamp: float | str
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    type: str = "unknown"
    unit: str = ""
    help: str = ""


_array = msgspec.json.Decoder(list[_Record])
_single = msgspec.json.Decoder(_Record)
_parts = msgspec.json.Decoder(list[msgspec.Raw])
_tags = msgspec.json.Decoder(dict[str, str])


class JsonReader:
    """Decodes messages; remembers the identities it has computed. Not safe to share by threads."""

    def __init__(self) -> None:
        self._identities: dict[tuple[str, bytes], SeriesDefinition] = {}

    def read(self, message: bytes) -> Block:
        """Never raises for bad input: what cannot be stored is in `rejects`."""
        try:
            return self._block(_records(message))
        except (msgspec.MsgspecError, UnicodeDecodeError, BadRecord, RecursionError):
            return self._piecewise(message)

    def _piecewise(self, message: bytes) -> Block:
        try:
            parts = _split(message)
        except BadRecord as bad:
            reject = Reject(Reason(bad.reason), bad.detail, 1, message)
            return self._block([], [reject])
        records, rejects = [], []
        for part in parts:
            try:
                record = _one(part)
                self._block([record])
                records.append(record)
            except BadRecord as bad:
                rejects.append(Reject(Reason(bad.reason), bad.detail, 1, part))
        return self._block(records, rejects)

    def _block(self, records: list[_Record], rejects: list[Reject] | None = None) -> Block:
        """Raises BadRecord if one of the records is bad."""
        known, used = self._identities, {}
        ids, checks, ts, values = [], [], [], []
        for record in records:
            key = (record.metric, bytes(record.tags))
            series = known.get(key)
            if series is None:
                series = self._define(record, key)
            used[series.series_id] = series
            ids.append(series.series_id)
            checks.append(series.check)
            stamp = record.timestamp
            if isinstance(stamp, float) and MILLISECONDS_FROM <= stamp < TOO_FINE_FROM:
                ts.append(int(stamp))
            else:
                ts.append(timestamp_ms(stamp))
            value = record.value
            values.append(value if isinstance(value, float) else number(value))
        column = np.array(values, dtype=np.float64)
        column[column == 0.0] = 0.0  # -0.0 becomes 0.0; adding 0.0 would spoil stale markers
        return Block(
            np.array(ids, dtype=np.int64),
            np.array(checks, dtype=np.int32),
            np.array(ts, dtype=np.int64),
            column,
            list(used.values()),
            rejects or [],
        )

    def _define(self, record: _Record, key: tuple[str, bytes]) -> SeriesDefinition:
        try:
            tags = _tags.decode(record.tags)
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            raise BadRecord(Reason.MALFORMED, f"tags: {err}") from err
        check_names(record.metric, tags)
        series = define(
            record.metric, tags, metric_type=record.type, unit=record.unit, help_text=record.help
        )
        if len(self._identities) >= CACHED_IDENTITIES:
            self._identities.clear()
        self._identities[key] = series
        return series


def check_names(metric: str, tags: dict[str, str]) -> None:
    """Raises BadRecord(INVALID_LABEL): any non-empty UTF-8 is a name, but __name__ is no label."""
    if not metric:
        raise BadRecord(Reason.INVALID_LABEL, "the metric has no name")
    if "__name__" in tags:
        raise BadRecord(Reason.INVALID_LABEL, "__name__ as a tag: put the name in `metric`")
    if "" in tags:
        raise BadRecord(Reason.INVALID_LABEL, "a tag has an empty name")


def timestamp_ms(stamp: float | str) -> int:
    """ms since the epoch from s, ms (>= 1e11) or RFC 3339. Raises BadRecord."""
    if isinstance(stamp, str):
        try:
            moment = dt.datetime.fromisoformat(stamp)
        except ValueError as err:
            raise BadRecord(Reason.MALFORMED, f"timestamp: {stamp!r} is not RFC 3339") from err
        if moment.tzinfo is None:
            raise BadRecord(Reason.MALFORMED, f"timestamp: {stamp!r} has no time zone")
        return round(moment.timestamp() * 1000)
    if abs(stamp) >= TOO_FINE_FROM:
        raise BadRecord(Reason.MALFORMED, f"timestamp: {stamp:.0f} looks like µs; send s or ms")
    return int(stamp) if abs(stamp) >= MILLISECONDS_FROM else round(stamp * 1000)


def number(value: float | str | None) -> float:
    """The stale marker for null. Raises BadRecord for any other text than NaN, +Inf, Inf, -Inf."""
    if value is None:
        return STALE_NAN
    if isinstance(value, str):
        if value not in _SPECIAL:
            raise BadRecord(Reason.MALFORMED, f"value: {value!r} is not a number")
        return _SPECIAL[value]
    return float(value)


def _records(message: bytes) -> list[_Record]:
    start = message[:64].lstrip()[:1]
    if start == b"[":
        return _array.decode(message)
    if b"\n" not in message.strip():
        return [_single.decode(message)]
    return _single.decode_lines(message)


def _one(part: bytes) -> _Record:
    try:
        return _single.decode(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise BadRecord(Reason.MALFORMED, str(err)) from err


def _split(message: bytes) -> list[bytes]:
    """The objects of a message as they were written. Raises BadRecord if it has none."""
    if not message.strip():
        raise BadRecord(Reason.MALFORMED, "the message is empty")
    if message.lstrip()[:1] == b"[":
        try:
            return [bytes(part) for part in _parts.decode(message)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            raise BadRecord(Reason.MALFORMED, str(err)) from err
    try:
        msgspec.json.decode(message, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = [line for line in message.splitlines() if line.strip()]
        return lines if len(lines) > 1 else [message]
    return [message]
