"""SQL over the tables and views in DuckDB, without Java. Each table is read at one version."""

from __future__ import annotations

import re

import duckdb

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES
from varve.model.views import VIEWS, view_sql
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

_WORD = re.compile(r"\w+")
_COMMENT = re.compile(r"--.*")
_OPTIONS: dict[str, str | bool | int | float | list[str]] = {
    # Nothing is fetched from the network behind the user's back.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def connect(store: Store, query: str) -> duckdb.DuckDBPyConnection:
    """Opens a database with the tables and views that the query names, all if it names none.

    Each table is at its newest version and stays there. Raises NeedsOperator if a table that
    the query needs does not exist.
    """
    connection = duckdb.connect(config=_OPTIONS)
    bases = {view: _words(view_sql(view, "duckdb")) & set(TABLES) for view in VIEWS}
    named = _words(query) & {*TABLES, *VIEWS}
    wanted = named or {*TABLES, *VIEWS}
    tables = (wanted & set(TABLES)).union(*(bases[view] for view in wanted & set(VIEWS)))
    registered = set()
    # The table series last: its definitions then cover all that the other tables hold.
    for table in sorted(tables, key=lambda name: (name == "series", name)):
        try:
            connection.register(table, snapshot(store, table).arrow_dataset())
        except NeedsOperator:
            if named:
                raise
        else:
            registered.add(table)
    for view in VIEWS:
        if view in wanted and bases[view] <= registered:
            connection.execute(f"CREATE VIEW {view} AS {view_sql(view, 'duckdb')}")
    return connection


def _words(query: str) -> set[str]:
    """Every word outside comments. All tables that the query can mean are among them."""
    return set(_WORD.findall(_COMMENT.sub("", query).lower()))
