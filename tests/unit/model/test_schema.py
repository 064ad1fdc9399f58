from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from deltalake import Schema

from varve.model.schema import TABLES, table_schema
from varve.model.window import TIERS

# What tells a reader of a number what it counts or where it lies.
MEANING = re.compile(
    r"unit|bits|identity|version|milliseconds|seconds|bytes|0 to|from 0|at least|above|below|"
    r"number of|samples|revision|share|probability",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_and_each_of_its_columns_say_what_they_are(name):
    schema = table_schema(name)

    assert schema.name == name
    assert schema.comment
    assert "{" not in schema.comment
    for column in schema.columns:
        assert column.comment.endswith("."), column.name


@pytest.mark.parametrize("name", TABLES)
def test_a_number_says_its_unit_or_bounds(name):
    for column in table_schema(name).columns:
        kind = column.arrow_type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            assert MEANING.search(column.comment), column.name


@pytest.mark.parametrize("name", TABLES)
def test_a_time_is_in_milliseconds_of_the_unix_epoch(name):
    for column in table_schema(name).columns:
        if re.search(r"(^|_)(ts|at|end|seen|until)$", column.name):
            assert column.arrow_type == pa.int64()
            assert "milliseconds since the unix epoch, utc" in column.comment.lower(), column.name


@pytest.mark.parametrize("name", TABLES)
def test_the_ddl_the_arrow_and_the_delta_schema_agree(name):
    schema = table_schema(name)

    delta = Schema.from_json(schema.delta_json)

    assert json.loads(delta.to_json()) == json.loads(schema.delta_json)
    assert [f.name for f in delta.fields] == schema.stored_arrow.names
    assert schema.arrow.names == schema.names()
    assert schema.stored_arrow.names[: len(schema.columns)] == schema.names()
    assert [f.nullable for f in delta.fields] == [f.nullable for f in schema.stored_arrow]
    stored = pa.schema(delta.to_arrow())
    for field in schema.arrow:
        assert _plain(stored.field(field.name).type) == _plain(field.type)


def _plain(kind: pa.DataType) -> object:
    """A type without the names Arrow gives to parts of it."""
    if pa.types.is_map(kind):
        return "map", _plain(kind.key_type), _plain(kind.item_type)
    if pa.types.is_list(kind):
        return "list", _plain(kind.value_type)
    if pa.types.is_struct(kind):
        return [(f.name, _plain(f.type)) for f in kind]
    return kind


def test_the_tiers_share_one_schema_and_differ_in_their_width():
    schemas = [table_schema(t.table) for t in TIERS]

    assert (
        len({s.delta_json.replace(t.name, "W") for s, t in zip(schemas, TIERS, strict=True)}) == 1
    )
    for tier, schema in zip(TIERS, schemas, strict=True):
        assert f"CREATE TABLE {tier.table} (" in schema.ddl


def test_there_is_no_other_table():
    with pytest.raises(KeyError):
        table_schema("rollup_2m")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_which_column_is_its_time(name):
    schema = table_schema(name)

    if name in ("series", "metric_metadata"):
        assert schema.time_column is None
        return
    (column,) = (c for c in schema.columns if c.name == schema.time_column)
    assert (column.arrow_type, column.nullable) == (pa.int64(), False)
    assert "milliseconds since the unix epoch, utc" in column.comment.lower()


def test_samples_may_have_their_values_in_another_form():
    schema = table_schema("samples")

    assert schema.names() == ["series_id", "ts", "value"]
    assert [c.name for c in schema.layout_columns] == ["scaled", "shift", "divisor"]
    assert all(c.nullable and c.comment for c in schema.layout_columns)
