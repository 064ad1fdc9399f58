"""The tables, as schemas/tables describes them. Code asks here and repeats no column.

A DDL file is Spark SQL; rollup.sql stands for the four tiers, with {tier} in place of the name. The
table property varve.time_column names the column that tells the time of a row, and
varve.layout_columns those that only some files have, for another form of a column.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import expressions as sql

from varve.model.resources import schemas_dir
from varve.model.window import TIERS

TABLES = (
    "samples",
    "histograms",
    "exemplars",
    "series",
    "metric_metadata",
    *(tier.table for tier in TIERS),
    "quarantine",
    "repairs",
    "features",
    "day_features",
    "baselines",
    "anomalies",
    "episodes",
    "episode_labels",
    "alerts",
    "forecasts",
    "forecast_fits",
    "capacity",
    "quality",
)

_TIME_COLUMN = "varve.time_column"
_LAYOUT_COLUMNS = "varve.layout_columns"
_PRIMITIVES: dict[str, tuple[str, pa.DataType]] = {
    "BIGINT": ("long", pa.int64()),
    "INT": ("integer", pa.int32()),
    "TINYINT": ("byte", pa.int8()),
    "DOUBLE": ("double", pa.float64()),
    "TEXT": ("string", pa.string()),
    "VARCHAR": ("string", pa.string()),
    "BINARY": ("binary", pa.binary()),
    "BOOLEAN": ("boolean", pa.bool_()),
}


@dataclass(frozen=True, slots=True)
class Column:
    """delta_type is the type in Delta's schema JSON."""

    name: str
    arrow_type: pa.DataType
    delta_type: Any
    nullable: bool
    comment: str


@dataclass(frozen=True, slots=True)
class TableSchema:
    name: str
    comment: str
    columns: tuple[Column, ...]
    """Those of a row, as it is written and read."""
    ddl: str
    """The CREATE TABLE statement, Spark SQL."""
    time_column: str | None = None
    """Column that tells the time of a row, ms: reads and retention go by it. None for a table
    whose rows stand for no time.
    """
    layout_columns: tuple[Column, ...] = ()
    """Further ones that files may have, in which they keep a column of a row in another form
    (varve.storage.scaled_values). Only who reads files by other means than Varve sees them.
    """

    @property
    def arrow(self) -> pa.Schema:
        """Of rows."""
        return _arrow(self.columns)

    @property
    def stored_arrow(self) -> pa.Schema:
        """Of files, with all columns that one may have."""
        return _arrow(self.stored_columns)

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        return (*self.columns, *self.layout_columns)

    @property
    def delta_json(self) -> str:
        """Schema string of the Delta protocol (struct type), with all columns of files."""
        fields = [
            {
                "name": c.name,
                "type": c.delta_type,
                "nullable": c.nullable,
                "metadata": {"comment": c.comment},
            }
            for c in self.stored_columns
        ]
        return json.dumps({"type": "struct", "fields": fields})

    def names(self) -> list[str]:
        """Of the columns of a row."""
        return [c.name for c in self.columns]


@cache
def table_schema(name: str) -> TableSchema:
    """KeyError if there is no such table."""
    if name not in TABLES:
        raise KeyError(name)
    tier = name.removeprefix("rollup_")
    file = "rollup" if tier != name else name
    ddl = (schemas_dir() / "tables" / f"{file}.sql").read_text().replace("{tier}", tier)
    create = sqlglot.parse_one(ddl, dialect="spark")
    defined = create.this.expressions
    comment = create.find(sql.SchemaCommentProperty)
    # Clauses such as USING are properties, too, to sqlglot, but have no value.
    stated = [p for p in create.find_all(sql.Property) if "value" in p.args]
    properties = {p.name: p.args["value"].name for p in stated}
    columns = tuple(map(_column, defined))
    of_layout = properties.get(_LAYOUT_COLUMNS, "").split(",")
    return TableSchema(
        name,
        comment.this.name if comment else "",
        tuple(c for c in columns if c.name not in of_layout),
        ddl.strip(),
        properties.get(_TIME_COLUMN),
        tuple(c for c in columns if c.name in of_layout),
    )


def _arrow(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in columns])


def _column(definition: sql.ColumnDef) -> Column:
    constraints = {type(c.kind): c.kind for c in definition.constraints}
    comment = constraints.get(sql.CommentColumnConstraint)
    delta_type, arrow_type = _types(definition.args["kind"])
    nullable = sql.NotNullColumnConstraint not in constraints
    return Column(
        definition.name, arrow_type, delta_type, nullable, comment.this.name if comment else ""
    )


def _types(kind: sql.DataType) -> tuple[Any, pa.DataType]:
    name, nested = kind.this.value, kind.expressions
    if name == "MAP":
        (key, arrow_key), (value, arrow_value) = map(_types, nested)
        delta = {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
        return delta, pa.map_(arrow_key, arrow_value)
    if name == "ARRAY":
        element, arrow_element = _types(nested[0])
        delta = {"type": "array", "elementType": element, "containsNull": True}
        return delta, pa.list_(pa.field("element", arrow_element))
    if name == "STRUCT":
        fields = [(f.name, *_types(f.args["kind"])) for f in nested]
        delta = {
            "type": "struct",
            "fields": [
                {"name": n, "type": d, "nullable": True, "metadata": {}} for n, d, _ in fields
            ],
        }
        return delta, pa.struct([pa.field(n, a) for n, _, a in fields])
    return _PRIMITIVES[name]
