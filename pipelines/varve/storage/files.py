"""Parquet files of the tables: written by tasks, described to the one who commits them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varve.model.schema import TableSchema, table_schema
from varve.storage.layout import ARRIVAL, Layout, encode
from varve.storage.store import Store

# Columns whose statistics prune files, beside the table's time. Statistics on values would only
# grow the log.
_STATISTICS = frozenset({"series_id", "ts", "first_seen", "last_seen", "revision"})


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that exists in the folder of `table` but in no commit yet."""

    table: str
    path: str
    size: int
    """Bytes."""
    rows: int
    schema: str
    """Fingerprint of the schema it was written with."""
    minimum: Mapping[str, int] = field(default_factory=dict)
    """Least value by column, of the columns with statistics."""
    maximum: Mapping[str, int] = field(default_factory=dict)
    """Greatest value by column."""
    nulls: Mapping[str, int] = field(default_factory=dict)
    """Rows that are NULL by column."""

    def statistics(self) -> str:
        """The `stats` of Delta's add action."""
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": dict(self.minimum),
                "maxValues": dict(self.maximum),
                "nullCount": dict(self.nulls),
            }
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def fingerprint(schema: TableSchema) -> str:
    """A hash of names, types and nullability. Comments do not count: a release that words one
    better must still commit the files that a crash of the one before it has kept back.
    """
    columns = [(c.name, c.delta_type, c.nullable) for c in schema.columns]
    return hashlib.blake2b(json.dumps(columns).encode(), digest_size=8).hexdigest()


def write_file(store: Store, table: str, rows: pa.Table, layout: Layout = ARRIVAL) -> NewFile:
    """Writes rows, already in the table's sort order, as one new file. No commit: that also makes
    the file's name safe.

    Raises ValueError if the columns are not the table's or there are no rows; StorageFull without
    room, and any other OSError if the storage fails. Then no part of a file is left.
    """
    schema = table_schema(table)
    if rows.num_rows == 0:
        raise ValueError(f"no rows for a file of {table}")
    if rows.schema.names != schema.names():
        raise ValueError(f"columns {rows.schema.names} are not those of {table}: {schema.names()}")
    path = f"{layout.prefix}{uuid.uuid4().hex}.parquet"
    bounded = _with_statistics(schema)
    body = encode(rows.cast(schema.arrow), schema, layout, bounded)
    store.put_new(table, path, body)
    bounds = {c: pc.min_max(rows.column(c)).as_py() for c in bounded}
    return NewFile(
        table=table,
        path=path,
        size=body.size,
        rows=rows.num_rows,
        schema=fingerprint(schema),
        minimum={c: b["min"] for c, b in bounds.items() if b["min"] is not None},
        maximum={c: b["max"] for c, b in bounds.items() if b["max"] is not None},
        nulls={c: rows.column(c).null_count for c in bounded},
    )


def adopted(store: Store, new: NewFile) -> NewFile:
    """A file that an earlier release wrote and described, for a commit that it still owes: columns
    that the table has gained since are NULL in it.

    Raises ValueError if its columns are not of the table, or a gained one is never NULL.
    """
    schema = table_schema(new.table)
    if new.schema == fingerprint(schema):
        return new
    with store.filesystem(new.table).open_input_file(new.path) as opened:
        stored = pq.read_schema(opened)
    wanted = schema.stored_arrow
    for name, kind in zip(stored.names, stored.types, strict=True):
        if name not in wanted.names or not wanted.field(name).type.equals(kind):
            raise ValueError(f"{new.path}: column {name} {kind} is none of {new.table}")
    for column in wanted:
        if column.name not in stored.names and not column.nullable:
            raise ValueError(f"{new.path}: has no {column.name}, which is never NULL")
    return replace(new, schema=fingerprint(schema))


def require_valid(new: NewFile, schema: TableSchema) -> None:
    """ValueError if the file's description cannot be true of a file of this table."""
    if new.schema != fingerprint(schema):
        raise ValueError(f"{new.path}: written with another schema of {schema.name}")
    if new.rows <= 0 or new.size <= 0:
        raise ValueError(f"{new.path}: {new.rows} rows in {new.size} bytes")
    bounded = _with_statistics(schema)
    for column in (c.name for c in schema.columns if not c.nullable and c.name in bounded):
        low: Any = new.minimum.get(column)
        high: Any = new.maximum.get(column)
        if low is None or high is None or low > high:
            raise ValueError(f"{new.path}: bounds of {column} are {low} and {high}")
        if new.nulls.get(column):
            raise ValueError(f"{new.path}: {column} is never NULL")


def _with_statistics(schema: TableSchema) -> list[str]:
    """Columns of which a file says the bounds, in the table's order."""
    return [name for name in schema.names() if name in {*_STATISTICS, schema.time_column}]
