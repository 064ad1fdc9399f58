"""Kafka JSON: objects one after the other, on lines or in arrays, of one of several shapes.

Our own shape is schemas/wire/sample.schema.json. A message of nothing but that is read in one go;
any other is taken apart, so that its good objects are stored and its bad ones named.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from varve.ingest.decoded import EMPTY, Block, Reject, refused
from varve.ingest.json_shapes import Identities, Read, Shape
from varve.ingest.json_text import BLANK, GAP, parts
from varve.ingest.json_values import NOT_JSON, milliseconds, number, tags_of, timestamp_ms
from varve.ingest.name_rules import check_names
from varve.ingest.prometheus_adapter_json import PrometheusAdapterShape
from varve.ingest.reject_reasons import Reason
from varve.ingest.telegraf_json import TelegrafShape
from varve.kafka.message import Headers
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition, define

# Bad objects of a message that get a quarantine row of their own; those beyond share one a reason.
OWN_ROWS = 10
_END = ord("}")

T = TypeVar("T")
_BAD = (*NOT_JSON, BadRecord)


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
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    type: str = "unknown"
    unit: str = ""
    help: str = ""


_array = msgspec.json.Decoder(list[_Record])
_single = msgspec.json.Decoder(_Record)
_definition = msgspec.json.Decoder(_Definition)
_names = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonCodec:
    """JSON in the registry of codecs; remembers the identities it has computed."""

    content_types: ClassVar = frozenset({"application/json", "application/x-ndjson"})
    schema_files: ClassVar[tuple[str, ...]] = (
        "sample.schema.json",
        "definition.schema.json",
        TelegrafShape.schema_file,
        PrometheusAdapterShape.schema_file,
    )

    def __init__(self) -> None:
        self._identities = Identities()
        self._own = _OwnShape(self._identities)
        # A new shape is a module and an entry here.
        shapes: tuple[Shape, ...] = (
            self._own,
            TelegrafShape(self._identities),
            PrometheusAdapterShape(self._identities),
        )
        self._shapes = {mark: shape for shape in shapes for mark in shape.marks}
        self._likely: Shape = self._own
        """The shape of the last object that was of another one than those before it."""
        marks = ", ".join(sorted(self._shapes))
        self._no_shape = f"an object of no known format: it has none of {marks}"

    def recognises(self, body: bytes) -> bool:  # noqa: ARG002 - whatever no other codec takes
        return True

    def samples(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - says all itself
        return self.read(body)

    singles_begin: ClassVar[bytes | None] = b"{"

    def may_be_single(self, body: bytes) -> bool:
        return body[-1] == _END and self._likely is self._own

    def singles(self, bodies: Sequence[bytes]) -> Block | None:
        # Each begins and ends with a bracket, so that no object can reach from one into the next:
        # if there are as many objects as bodies, each body is one.
        with contextlib.suppress(*_BAD):
            block = self._own.block(b"\n".join(bodies))
            return block if len(block) == len(bodies) else None
        return None

    def definitions(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - as above
        return self.read_definitions(body)

    def read(self, message: bytes) -> Block:
        """Decodes samples. Never raises for bad input: what cannot be stored is in `rejects`."""
        if self._likely is not self._own:
            with contextlib.suppress(*_BAD):
                return _block([self._likely.read(message)], [])
        with contextlib.suppress(*_BAD):
            return self._own.block(message)
        try:
            return _block(*_each(message, self._read))
        except BadRecord as bad:
            return refused(bad, message)

    def read_definitions(self, message: bytes) -> Block:
        """Decodes definitions: objects like those of samples, without value and timestamp. Never
        raises for bad input.
        """
        try:
            defined, rejects = _each(message, _define)
        except BadRecord as bad:
            return refused(bad, message)
        return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, (), defined, rejects)

    def _read(self, part: bytes) -> Read:
        """Reads an object of any shape. Raises BadRecord or NOT_JSON."""
        try:
            return self._likely.read(part)
        except _BAD:
            # It may be of another shape, or of several.
            pass
        names = _names.decode(part)
        marks = self._shapes.keys() & names.keys()
        if not marks:
            raise BadRecord(Reason.MALFORMED, self._no_shape)
        if len(found := {self._shapes[mark] for mark in marks}) > 1:
            text = f"ambiguous: it has {' and '.join(sorted(marks))}, of different formats"
            raise BadRecord(Reason.MALFORMED, text)
        self._likely = found.pop()
        return self._likely.read(part)


class _OwnShape:
    """The shape of schemas/wire/sample.schema.json."""

    marks: ClassVar = frozenset({"metric"})
    schema_file: ClassVar = "sample.schema.json"

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def read(self, part: bytes) -> Read:
        record = _single.decode(part)
        return Read([(self._owner(record), timestamp_ms(record.timestamp), number(record.value))])

    def block(self, message: bytes) -> Block:
        """A message of nothing but good objects. Raises NOT_JSON or BadRecord for any other."""
        records = _records(message)
        known = self._identities.known
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
            ts = milliseconds(np.array(stamps, np.float64))
        else:
            ts = np.array([timestamp_ms(s) for s in stamps], np.int64)
        if {*map(type, values)} != {float}:
            values = [number(v) for v in values]
        return _columns(owners, ts, np.array(values, np.float64))

    def _owner(self, record: _Record) -> SeriesDefinition:
        key = record.metric, bytes(record.tags)
        known = self._identities.known.get(key)
        # Type, unit and help may be said once for many samples: what says most is remembered.
        if known is not None and (record.type == "unknown" or known.type != "unknown"):
            return known
        series = _series(record)
        size = len(record.metric) + len(key[1]) + len(record.unit) + len(record.help)
        self._identities.put(key, size, series)
        return series


def _block(found: list[Read], rejects: list[Reject]) -> Block:
    rejects += [reject for read in found for reject in read.rejects]
    rows = [row for read in found for row in read.rows]
    if not rows:
        return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, rejects=rejects)
    owners, ts, values = zip(*rows, strict=True)
    return _columns(owners, np.array(ts, np.int64), np.array(values, np.float64), rejects)


def _columns(
    owners: Any, ts: np.ndarray, values: np.ndarray, rejects: Sequence[Reject] = ()
) -> Block:
    return Block(
        np.array([o.series_id for o in owners], np.int64),
        np.array([o.check for o in owners], np.int32),
        ts,
        values,
        owners,
        rejects=rejects,
    )


def _series(record: _Record | _Definition) -> SeriesDefinition:
    tags = tags_of(bytes(record.tags))
    check_names(record.metric, tags)
    return define(
        record.metric, tags, metric_type=record.type, unit=record.unit, help_text=record.help
    )


def _define(part: bytes) -> SeriesDefinition:
    return _series(_definition.decode(part))


def _records(message: bytes) -> list[_Record]:
    if message.lstrip(BLANK).startswith(b"["):
        return _array.decode(message)
    records = _single.decode_lines(message)
    if not records:
        raise BadRecord(Reason.MALFORMED, "the message is blank")
    return records


def _each(message: bytes, read: Callable[[bytes], T]) -> tuple[list[T], list[Reject]]:
    """What `read` makes of each object of a message, and the objects for which it raises BadRecord
    or NOT_JSON. Raises BadRecord for a message that cannot be taken apart.
    """
    text = message.removeprefix(codecs.BOM_UTF8)
    try:
        text.decode()
    except UnicodeDecodeError as err:
        raise BadRecord(Reason.MALFORMED, f"not UTF-8: {err.reason} at {err.start}") from err
    if not text.strip(GAP):
        raise BadRecord(Reason.MALFORMED, "the message is blank")
    good: list[T] = []
    refused = _Refused()
    for part, problem in parts(text):
        if problem is not None:
            refused.add(BadRecord(Reason.MALFORMED, problem), part, whole=False)
            continue
        try:
            good.append(read(part))
        except BadRecord as bad:
            refused.add(bad, part, whole=True)
        except NOT_JSON as err:
            refused.add(BadRecord(Reason.MALFORMED, str(err)), part, whole=True)
    return good, refused.rejects()


class _Refused:
    """What cannot be stored of a message: the first few pieces one by one, the others together."""

    def __init__(self) -> None:
        self._own: list[Reject] = []
        self._beyond: dict[tuple[Reason, bool], _Together] = {}

    def add(self, bad: BadRecord, part: bytes, *, whole: bool) -> None:
        """whole: whether the part has its closing bracket."""
        reason = Reason(bad.reason)
        if len(self._own) < OWN_ROWS:
            self._own.append(Reject(reason, bad.detail, 1, part, exceeded=bad.exceeded))
            return
        together = self._beyond.get((reason, whole))
        if together is None:
            together = self._beyond[reason, whole] = _Together(bad.detail)
        # Pieces must not become an object by being put together.
        together.text += part + (b"," if whole else b"\n]\n")
        together.count += 1

    def rejects(self) -> list[Reject]:
        found = list(self._own)
        for (reason, whole), together in self._beyond.items():
            text = bytes(together.text)
            value = b"[" + text[:-1] + b"]" if whole else text
            detail = f"{together.count} pieces of the message; the first: {together.detail}"
            found.append(Reject(reason, detail, together.count, value))
        return found


@dataclass(slots=True)
class _Together:
    """Pieces of a message that are refused for one reason. detail: of the first."""

    detail: str
    text: bytearray = field(default_factory=bytearray)
    count: int = 0
