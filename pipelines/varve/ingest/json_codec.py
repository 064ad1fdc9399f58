"""Kafka JSON: one object, an array of objects, or one object a line (NDJSON).

schemas/wire/sample.schema.json says what an object is. A message is read whole in one go; only
if that fails is it taken apart, so that its good objects are stored and its bad ones named.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from varve.ingest.decoded import EMPTY, Block, Reject
from varve.ingest.name_rules import check_names
from varve.ingest.reject_reasons import Reason
from varve.kafka.message import Headers
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition, define
from varve.model.staleness import NORMAL_NAN, STALE_NAN

# Timestamps from here on are ms; below, s. 1e11 s is the year 5138, 1e11 ms is March 1973.
MILLISECONDS_FROM = 1e11
# From here on they can only be finer than ms.
TOO_FINE_FROM = 1e14
# Bad objects of a message that get a quarantine row of their own; those beyond share one a reason.
OWN_ROWS = 10
# Bad objects after which the rest of a message is not looked at: bounds the time it takes.
TAKEN_APART = 10_000
# Memory of the distinct (metric, tags) texts whose identity is kept; a full cache is emptied. One
# of 100 bytes was measured to take 1,250, so this holds over 400,000 of them.
CACHED_BYTES = 512 * 2**20
_CACHED_ENTRY = 650
_CACHED_PER_BYTE = 6

_SPECIAL = {
    "NaN": NORMAL_NAN,
    "+Inf": math.inf,
    "Inf": math.inf,
    "-Inf": -math.inf,
}
# Source: RFC 3339, section 5.6; fromisoformat alone takes more than that.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Strings as a whole, so that nothing in them counts; each pattern is linear, whatever the bytes.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_BLANK = b" \t\r\n"
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


T = TypeVar("T")


class _Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    metric: str
    value: float | str | None
    timestamp: float | str
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    type: str = "unknown"
    unit: str = ""
    help: str = ""


class _Definition(msgspec.Struct, forbid_unknown_fields=True):
    metric: str
    tags: dict[str, str] = {}
    type: str = "unknown"
    unit: str = ""
    help: str = ""


_array = msgspec.json.Decoder(list[_Record])
_single = msgspec.json.Decoder(_Record)
_tags = msgspec.json.Decoder(dict[str, str])
_definition = msgspec.json.Decoder(_Definition)
_any = msgspec.json.Decoder(msgspec.Raw)


class JsonCodec:
    """JSON in the registry of codecs; remembers the identities it has computed."""

    content_types: ClassVar = frozenset({"application/json", "application/x-ndjson"})
    schema_file: ClassVar = "sample.schema.json"

    def __init__(self) -> None:
        self._identities: dict[tuple[str, bytes], SeriesDefinition] = {}
        self._cached_bytes = 0

    def recognises(self, body: bytes) -> bool:  # noqa: ARG002 - whatever no other codec takes
        return True

    def samples(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - says all itself
        return self.read(body)

    def definitions(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - as above
        return self.read_definitions(body)

    def read(self, message: bytes) -> Block:
        """Decodes samples. Never raises for bad input: what cannot be stored is in `rejects`."""
        try:
            return self._block(_records(message))
        except (*_BROKEN, BadRecord):
            return self._piecewise(message)

    def read_definitions(self, message: bytes) -> Block:
        """Decodes definitions: objects like those of samples, without value and timestamp. Never
        raises for bad input.
        """
        defined, rejects = _each(message, _define)
        return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, (), defined, rejects)

    def _piecewise(self, message: bytes) -> Block:
        rows, rejects = _each(message, self._row)
        if not rows:
            return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, rejects=rejects)
        owners, ts, values = zip(*rows, strict=True)
        return _columns(owners, np.array(ts, np.int64), np.array(values, np.float64), rejects)

    def _row(self, part: bytes) -> tuple[SeriesDefinition, int, float]:
        record = _parse(_single, part)
        return self._owner(record), timestamp_ms(record.timestamp), number(record.value)

    def _block(self, records: list[_Record]) -> Block:
        """Raises BadRecord if one of the records is bad."""
        known = self._identities
        try:
            owners = [
                known[r.metric, bytes(r.tags)] if r.type == "unknown" else self._owner(r)
                for r in records
            ]
        except KeyError:
            owners = [self._owner(r) for r in records]
        stamps = [r.timestamp for r in records]
        values = [r.value for r in records]
        if {*map(type, stamps)} == {float}:
            ts = _milliseconds(np.array(stamps, np.float64))
        else:
            ts = np.array([timestamp_ms(s) for s in stamps], np.int64)
        if {*map(type, values)} != {float}:
            values = [number(v) for v in values]
        return _columns(owners, ts, np.array(values, np.float64))

    def _owner(self, record: _Record) -> SeriesDefinition:
        key = record.metric, bytes(record.tags)
        known = self._identities.get(key)
        # Type, unit and help may be said once for many samples: what says most is remembered.
        if known is not None and (record.type == "unknown" or known.type != "unknown"):
            return known
        series = _series(record, _parse(_tags, key[1], "tags: "))
        # By size, as a label may be as long as a message: limits on labels are judged later.
        texts = len(record.metric) + len(key[1]) + len(record.unit) + len(record.help)
        self._cached_bytes += _CACHED_ENTRY + _CACHED_PER_BYTE * texts
        if self._cached_bytes > CACHED_BYTES:
            self._identities.clear()
            self._cached_bytes = 0
        self._identities[key] = series
        return series


def timestamp_ms(stamp: float | str) -> int:
    """ms since the epoch from s, ms (>= 1e11) or RFC 3339. Raises BadRecord."""
    if isinstance(stamp, str):
        problem = f"timestamp: {stamp!r} is not RFC 3339 with a time zone"
        if not _RFC_3339.fullmatch(stamp):
            raise BadRecord(Reason.MALFORMED, problem)
        try:
            return round(dt.datetime.fromisoformat(stamp).timestamp() * 1000)
        except ValueError as err:
            raise BadRecord(Reason.MALFORMED, f"{problem}: {err}") from err
    return int(_milliseconds(np.array([stamp], np.float64))[0])


def number(value: float | str | None) -> float:
    """The stale marker for null. Raises BadRecord for any other text than NaN, +Inf, Inf, -Inf."""
    if value is None:
        return STALE_NAN
    if isinstance(value, str):
        if value not in _SPECIAL:
            raise BadRecord(Reason.MALFORMED, f"value: {value!r} is not a number")
        return _SPECIAL[value]
    return value


def _milliseconds(stamps: np.ndarray) -> np.ndarray:
    """From s or ms, float64. Raises BadRecord for what can be neither."""
    size = np.abs(stamps)
    if size.max(initial=0) >= TOO_FINE_FROM:
        wrong = stamps[size >= TOO_FINE_FROM][0]
        raise BadRecord(Reason.MALFORMED, f"timestamp: {wrong:.0f} looks like µs; send s or ms")
    return np.where(size >= MILLISECONDS_FROM, np.trunc(stamps), np.rint(stamps * 1000)).astype(
        np.int64
    )


def _columns(
    owners: Any, ts: np.ndarray, values: np.ndarray, rejects: list[Reject] | None = None
) -> Block:
    return Block(
        np.array([o.series_id for o in owners], np.int64),
        np.array([o.check for o in owners], np.int32),
        ts,
        values,
        owners,
        rejects=rejects or (),
    )


def _series(record: _Record | _Definition, tags: dict[str, str]) -> SeriesDefinition:
    check_names(record.metric, tags)
    return define(
        record.metric, tags, metric_type=record.type, unit=record.unit, help_text=record.help
    )


def _define(part: bytes) -> SeriesDefinition:
    record = _parse(_definition, part)
    return _series(record, record.tags)


def _records(message: bytes) -> list[_Record]:
    if message.lstrip(_BLANK).startswith(b"["):
        return _array.decode(message)
    records = _single.decode_lines(message)
    if not records:
        raise BadRecord(Reason.MALFORMED, "the message is blank")
    return records


def _parse(decoder: msgspec.json.Decoder[T], part: bytes, where: str = "") -> T:
    try:
        return decoder.decode(part)
    except _BROKEN as err:
        raise BadRecord(Reason.MALFORMED, f"{where}{err}") from err


def _each(message: bytes, read: Callable[[bytes], T]) -> tuple[list[T], list[Reject]]:
    """What `read` makes of each object of a message, and what it refuses."""
    whole = message.strip(_BLANK)
    if not whole:
        return [], [Reject(Reason.MALFORMED, "the message is blank", 1, message)]
    good: list[T] = []
    rejects: list[Reject] = []
    beyond: dict[Reason, tuple[str, list[bytes]]] = {}
    bad_ones = 0
    for part, start in _parts(whole):
        if bad_ones == TAKEN_APART:
            detail = f"{bad_ones} objects of the message are bad: the rest was not read"
            rest = whole[start:]
            # Of an array it is one, so that it can be read again.
            rest = b"[" + rest if whole[:1] == b"[" else rest
            rejects.append(Reject(Reason.MALFORMED, detail, 1, rest))
            break
        try:
            good.append(read(part))
        except BadRecord as bad:
            bad_ones += 1
            if bad_ones <= OWN_ROWS:
                rejects.append(Reject(Reason(bad.reason), bad.detail, 1, part))
            else:
                beyond.setdefault(Reason(bad.reason), (bad.detail, []))[1].append(part)
    for reason, (detail, parts) in beyond.items():
        text = f"{len(parts)} objects of the message; the first: {detail}"
        rejects.append(Reject(reason, text, len(parts), b"[" + b",".join(parts) + b"]"))
    return good, rejects


def _parts(whole: bytes) -> Iterator[tuple[bytes, int]]:
    """The objects of a stripped message as they were written, each with where it begins."""
    if whole.startswith(b"["):
        yield from _elements(whole)
        return
    try:
        _any.decode(whole)
    except _BROKEN:
        start = 0
        for line in whole.splitlines(keepends=True):
            if stripped := line.strip(_BLANK):
                yield stripped, start
            start += len(line)
    else:
        yield whole, 0


def _elements(array: bytes) -> Iterator[tuple[bytes, int]]:
    """Elements of an array that need not be valid JSON, or even end."""
    depth, start = 0, 1
    for token in _TOKEN.finditer(array):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"," if depth == 1:
                yield array[start : token.start()].strip(_BLANK), start
                start = token.end()
            case b"]" | b"}":
                depth -= 1
                if depth == 0:
                    last = array[start : token.start()].strip(_BLANK)
                    if last or start > 1:
                        yield last, start
                    start = token.end()
                    break
    rest = array[start:].strip(_BLANK)
    if rest or depth:
        yield rest, start
