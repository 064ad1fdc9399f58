"""Arrow IPC messages: a stream of samples, and perhaps behind it one of definitions and one of
metadata.

schemas/wire/samples.arrow.json has the columns. Producers that know series_id and check send
these 28 bytes a sample and no labels. Rows of a record table come in place of samples in the same
way; their columns tell of which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa

from varve.ingest.decoded import EMPTY, Block, concatenate, refused
from varve.ingest.definition_columns import DefinitionColumns
from varve.ingest.name_rules import check_names
from varve.ingest.record_rules import why_invalid
from varve.ingest.reject_reasons import Reason
from varve.kafka.message import Headers
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition, define
from varve.model.metadata import Metadata
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.resources import schemas_dir
from varve.model.schema import table_schema
from varve.model.staleness import STALE_NAN

# First bytes of an IPC stream: the continuation marker of its first message.
MAGIC = b"\xff\xff\xff\xff"

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "map<string, string>": pa.map_(pa.string(), pa.string()),
}
# What a broken stream raises, found by fuzzing; MemoryError for a length that is none.
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError)


class ArrowCodec:
    """Arrow IPC in the registry of codecs."""

    content_types: ClassVar = frozenset({"application/vnd.apache.arrow.stream"})
    schema_files: ClassVar[tuple[str, ...]] = ("samples.arrow.json",)

    def recognises(self, body: bytes) -> bool:
        return body.startswith(MAGIC)

    def samples(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - says all itself
        return read(body)

    singles_begin: ClassVar[bytes | None] = None  # it gains nothing

    def may_be_single(self, body: bytes) -> bool:  # noqa: ARG002 - as above
        return False

    def singles(self, bodies: Sequence[bytes]) -> Block | None:  # noqa: ARG002 - as above
        return None

    def definitions(self, body: bytes, headers: Headers) -> Block:  # noqa: ARG002 - as above
        return read_definitions(body)


@cache
def wire_schema(part: str) -> pa.Schema:
    """The columns of "samples", "definitions" or "metadata" in a message, or of a record table."""
    if part in RECORD_TABLES:
        series_id, *others = table_schema(part).arrow
        return pa.schema([series_id, pa.field("check", pa.int32(), nullable=False), *others])
    fields = json.loads((schemas_dir() / "wire" / "samples.arrow.json").read_text())[part]
    return pa.schema([pa.field(f["name"], _TYPES[f["type"]], f["nullable"]) for f in fields])


def read(message: bytes) -> Block:
    """Decodes samples, and definitions if there are any. Never raises for bad input: what cannot
    be stored is in `rejects`. Columns point into the message where they can.
    """
    source = pa.BufferReader(message)
    try:
        part, batches = _batches(source, (SAMPLES, *RECORD_TABLES))
        blocks = [_block(batch) if part == SAMPLES else _records(part, batch) for batch in batches]
        defined, said = _behind_samples(source, message)
        _require_end(source, message)
    except BadRecord as bad:
        return refused(bad, message)
    samples = blocks[0] if len(blocks) == 1 else concatenate(blocks)
    if not defined and not said:
        return samples
    return replace(samples, definitions=defined, metadata=said)


def read_definitions(message: bytes) -> Block:
    """Decodes one stream of definitions. Never raises for bad input, like `read`."""
    source = pa.BufferReader(message)
    try:
        defined = _definitions(_batches(source, ("definitions",))[1])
        _require_end(source, message)
    except BadRecord as bad:
        return refused(bad, message)
    return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, definitions=defined)


def write(samples: pa.Table, definitions: Iterable[SeriesDefinition] = ()) -> bytes:
    """A message of `samples` (columns of the wire schema) and the definitions given."""
    defined = list(definitions)
    sink = pa.BufferOutputStream()
    _put(sink, samples)
    if defined:
        _put(sink, _definition_table(defined))
    return sink.getvalue().to_pybytes()


def write_metadata(said: Mapping[str, Metadata]) -> bytes:
    """A message of no samples, with what is said of metrics by their names."""
    rows = [(name, *astuple(one)) for name, one in said.items()]
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    sink = pa.BufferOutputStream()
    _put(sink, wire_schema(SAMPLES).empty_table())
    _put(sink, pa.Table.from_arrays(columns, schema=wire_schema("metadata")))
    return sink.getvalue().to_pybytes()


def write_definitions(definitions: Iterable[SeriesDefinition]) -> bytes:
    """A message of nothing but definitions."""
    sink = pa.BufferOutputStream()
    _put(sink, _definition_table(list(definitions)))
    return sink.getvalue().to_pybytes()


def _put(sink: pa.NativeFile, table: pa.Table) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _definition_table(defined: list[SeriesDefinition]) -> pa.Table:
    columns = [
        [d.metric for d in defined],
        [list(d.tags) for d in defined],
        [d.type for d in defined],
        [d.unit for d in defined],
        [d.help for d in defined],
    ]
    schema = wire_schema("definitions")
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _batches(source: pa.BufferReader, parts: Sequence[str]) -> tuple[str, list[pa.RecordBatch]]:
    """The batches of the next stream of a message, which must be one of `parts`, safe to read; and
    which of them it is. Raises BadRecord.
    """
    try:
        begin = source.tell()
        stream = pa.RecordBatchStreamReader(source)
        part = next((part for part in parts if _has_columns(stream.schema, part)), None)
        batches = []
        if part is not None:
            _require_plain(source, begin)
            batches = list(stream)
        for batch in batches:
            # A length that lies would be read past the message's end.
            batch.validate(full=part != SAMPLES)
    except _BROKEN as err:
        raise BadRecord(Reason.MALFORMED, f"not an Arrow stream: {type(err).__name__}") from err
    if part is None:
        names = wire_schema(parts[0]).names
        raise BadRecord(Reason.MALFORMED, f"columns of {parts[0]} are not {names} as specified")
    return part, batches


def _has_columns(schema: pa.Schema, part: str) -> bool:
    """Whether a stream is of a part. May a column be NULL, and metadata, are up to the producer."""
    wanted = wire_schema(part)
    return schema.equals(wanted) or (schema.names == wanted.names and schema.types == wanted.types)


def _require_plain(source: pa.BufferReader, begin: int) -> None:
    """Raises BadRecord if the stream that begins there holds anything but a schema and batches
    whose buffers are as long as they look: Arrow expands compressed ones without a bound.
    """
    here = source.tell()
    source.seek(begin)
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type not in ("schema", "record batch"):
            raise BadRecord(Reason.MALFORMED, f"not an Arrow stream: a {message.type}")
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            text = "compressed Arrow buffers: compress the message, with a content-encoding"
            raise BadRecord(Reason.MALFORMED, text)
    source.seek(here)


def _is_compressed(message: bytes) -> bool:
    """Whether a record batch has its field `compression`.

    Source: Apache Arrow, format/Message.fbs; FlatBuffers, "Internals".
    """
    root = int.from_bytes(message[:4], "little")
    header = _field(message, root, 2)
    batch = header + int.from_bytes(message[header : header + 4], "little")
    return _field(message, batch, 3) != 0


def _field(message: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is; 0 if it is not there."""
    entries = table - int.from_bytes(message[table : table + 4], "little", signed=True)
    at = 4 + 2 * number
    if at >= int.from_bytes(message[entries : entries + 2], "little"):
        return 0
    offset = int.from_bytes(message[entries + at : entries + at + 2], "little")
    return table + offset if offset else 0


def _require(part: str, batch: pa.RecordBatch) -> list[pa.Array]:
    """The columns of a batch. Raises BadRecord if one is NULL somewhere that must not be."""
    columns = batch.columns
    for field, column in zip(wire_schema(part), columns, strict=True):
        if column.null_count and not field.nullable:
            raise BadRecord(Reason.MALFORMED, f"{part}: {field.name} is null")
    return columns


def _behind_samples(
    source: pa.BufferReader, message: bytes
) -> tuple[Sequence[SeriesDefinition], Mapping[str, Metadata]]:
    """Definitions and metadata, each if they come. Raises BadRecord."""
    defined: Sequence[SeriesDefinition] = ()
    said: Mapping[str, Metadata] = {}
    parts = ["definitions", "metadata"]
    while parts and source.tell() < len(message):
        part, batches = _batches(source, parts)
        if part == "definitions":
            defined = _definitions(batches)
        else:
            said = _metadata(batches)
        del parts[: parts.index(part) + 1]
    return defined, said


def _metadata(batches: Iterable[pa.RecordBatch]) -> dict[str, Metadata]:
    said = {}
    for batch in batches:
        columns = (column.to_pylist() for column in _require("metadata", batch))
        for metric, *texts in zip(*columns, strict=True):
            check_names(metric, {})
            said[metric] = Metadata(*texts)
    return said


def _definitions(batches: Sequence[pa.RecordBatch]) -> Sequence[SeriesDefinition]:
    """Definitions of batches that are valid in full. Raises BadRecord."""
    if len(batches) == 1 and (columns := DefinitionColumns.of(batches[0])) is not None:
        return columns
    defined = []
    for batch in batches:
        _require("definitions", batch)
        for row in batch.to_pylist():
            tags = dict(row["tags"])
            if None in tags.values():
                raise BadRecord(Reason.MALFORMED, "definitions: a tag has no value")
            if len(tags) < len(row["tags"]):
                raise BadRecord(Reason.MALFORMED, "definitions: a tag comes twice")
            check_names(row["metric"], tags)
            defined.append(
                define(
                    row["metric"],
                    tags,
                    metric_type=row["type"] or "unknown",
                    unit=row["unit"] or "",
                    help_text=row["help"] or "",
                )
            )
    return defined


def _require_end(source: pa.BufferReader, message: bytes) -> None:
    """Raises BadRecord for what would be passed over: two messages in one, for example."""
    if source.tell() < len(message):
        raise BadRecord(Reason.MALFORMED, "bytes behind the definitions")


def _block(batch: pa.RecordBatch) -> Block:
    ids, checks, ts, values = _require("samples", batch)
    numbers = _numbers(values, np.float64)
    if values.null_count:
        numbers = numbers.copy()
        numbers[values.is_null().to_numpy(zero_copy_only=False)] = STALE_NAN
    return Block(
        _numbers(ids, np.int64), _numbers(checks, np.int32), _numbers(ts, np.int64), numbers
    )


def _records(table: str, batch: pa.RecordBatch) -> Block:
    """Rows of a record table. Raises BadRecord."""
    ids, checks, ts = _require(table, batch)[:3]
    rest = pa.table(batch.select(batch.schema.names[3:]))
    if why := why_invalid(table, rest):
        raise BadRecord(Reason.MALFORMED, f"{table}: {why}")
    return Block(
        _numbers(ids, np.int64),
        _numbers(checks, np.int32),
        _numbers(ts, np.int64),
        np.zeros(len(batch)),
        table=table,
        rest=rest,
    )


def _numbers(column: pa.Array, kind: type[np.generic]) -> np.ndarray:
    if not len(column):
        return np.empty(0, kind)
    # Not to_numpy, which takes as long as all of the message's samples together.
    return np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind().itemsize)
