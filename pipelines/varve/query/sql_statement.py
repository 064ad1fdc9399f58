"""Which SQL may be run for somebody else: one SELECT over tables, by the tree that DuckDB makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from varve.model.errors import BadRequest

# Functions in place of a table that reach nothing but their arguments and the catalogue. Others
# read files, take addresses in memory, or run SQL that is in a text.
_TABLE_FUNCTIONS: Final = frozenset(
    {
        *("range", "generate_series", "unnest", "repeat", "repeat_row"),
        *("duckdb_tables", "duckdb_views", "duckdb_columns", "pragma_table_info"),
    }
)
# What of functions in an expression has an effect, or tells of the process.
_FUNCTIONS: Final = frozenset(
    {
        *("getenv", "nextval", "currval", "set_config", "write_log", "json_execute_serialized_sql"),
        *("add_parquet_key", "getvariable", "current_setting", "error", "sleep", "pg_sleep"),
    }
)


def require_select(query: str) -> None:
    """Raises BadRequest unless the text is one statement that only reads tables and views."""
    try:
        with duckdb.connect(config={"enable_external_access": False}) as connection:
            statements = connection.extract_statements(query)
            if len(statements) != 1:
                raise BadRequest(f"there are {len(statements)} statements in this SQL: send one")
            tree = connection.execute("SELECT json_serialize_sql($1)", [query]).fetchall()[0][0]
    except duckdb.Error as err:
        raise BadRequest(str(err)) from err
    found = json.loads(tree)
    if found["error"]:
        raise BadRequest("this is no SELECT: nothing else is run here")
    for node in _nodes(found["statements"]):
        _require_harmless(node)


def _require_harmless(node: dict[str, Any]) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        name = str((node.get("function") or {}).get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise BadRequest(f"the table function {name} may not be used here")
    elif str(node.get("function_name", "")).lower() in _FUNCTIONS:
        raise BadRequest(f"the function {node['function_name']} may not be used here")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
