"""Arrow IPC messages: a stream of samples, and perhaps one of definitions behind it.

schemas/wire/samples.arrow.json has the columns. Producers that know series_id and check send
these 28 bytes a sample and no labels.
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pyarrow as pa

from varve.ingest.block import Block, Reject
from varve.ingest.json_format import check_names
from varve.ingest.reasons import Reason
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition, define
from varve.model.resources import schemas_dir
from varve.model.staleness import from_column

# First bytes of an IPC stream: the continuation marker of its first message.
MAGIC = b"\xff\xff\xff\xff"

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "map<string, string>": pa.map_(pa.string(), pa.string()),
}
# What a broken stream raises, measured by fuzzing.
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)


@cache
def wire_schema(part: str) -> pa.Schema:
    """part: "samples" or "definitions"."""
    fields = json.loads((schemas_dir() / "wire" / "samples.arrow.json").read_text())[part]
    return pa.schema([pa.field(f["name"], _TYPES[f["type"]], f["nullable"]) for f in fields])


def read(message: bytes) -> Block:
    """Never raises for bad input: what cannot be stored is in `rejects`."""
    try:
        source = pa.BufferReader(message)
        samples = _stream(source, "samples")
        definitions = _definitions(source) if source.tell() < len(message) else []
    except BadRecord as bad:
        reject = Reject(Reason(bad.reason), bad.detail, 1, message)
        return Block(*_columns(wire_schema("samples").empty_table()), rejects=[reject])
    return Block(*_columns(samples), definitions=definitions)


def write(samples: pa.Table, definitions: list[SeriesDefinition] | None = None) -> bytes:
    """A message of `samples` (columns of the wire schema) and the definitions given."""
    sink = pa.BufferOutputStream()
    _put(sink, samples)
    if definitions:
        columns = [
            [d.metric for d in definitions],
            [list(d.tags) for d in definitions],
            [d.type for d in definitions],
            [d.unit for d in definitions],
            [d.help for d in definitions],
        ]
        schema = wire_schema("definitions")
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        _put(sink, pa.Table.from_arrays(arrays, schema=schema))
    return bytes(sink.getvalue())


def _put(sink: pa.NativeFile, table: pa.Table) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _stream(source: pa.BufferReader, part: str) -> pa.Table:
    try:
        table = pa.ipc.open_stream(source).read_all()
        names, types = table.schema.names, table.schema.types
        table.validate(full=part == "definitions")
    except _BROKEN as err:
        raise BadRecord(Reason.MALFORMED, f"not an Arrow stream: {type(err).__name__}") from err
    wanted = wire_schema(part)
    if names != wanted.names or types != wanted.types:
        raise BadRecord(Reason.MALFORMED, f"columns of {part} are not {wanted.names} as specified")
    for field in wanted:
        if not field.nullable and table.column(field.name).null_count:
            raise BadRecord(Reason.MALFORMED, f"{part}: {field.name} is null")
    return table


def _definitions(source: pa.BufferReader) -> list[SeriesDefinition]:
    defined = []
    for row in _stream(source, "definitions").to_pylist():
        tags = dict(row["tags"])
        if None in tags.values():
            raise BadRecord(Reason.MALFORMED, "definitions: a tag has no value")
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


def _columns(samples: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        samples.column("series_id").to_numpy(),
        samples.column("check").to_numpy(),
        samples.column("ts").to_numpy(),
        from_column(samples.column("value")),
    )
