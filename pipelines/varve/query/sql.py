"""SQL over the tables and views in DuckDB, without Java. Each table is read at one version."""

from __future__ import annotations

import re

import duckdb

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES
from varve.model.views import VIEWS, view_sql
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

DEFAULT_MEMORY_MB = 2_048
"""MiB that DuckDB may take for a statement: joins and groups of a laptop's home, not its disk."""

_WORD = re.compile(r"\w+")
# Comments, and the texts and names in which their marks mean nothing.
_COMMENT_OR_QUOTED = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$""", re.DOTALL
)
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # The statement sees the tables and nothing else: no file, no network, no variable of ours.
    "enable_external_access": False,
    "allow_community_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    # What does not fit in memory is an error, and no file in the folder it was asked from.
    "temp_directory": "",
}


def connect(
    store: Store, query: str, memory_mb: int = DEFAULT_MEMORY_MB
) -> duckdb.DuckDBPyConnection:
    """Opens a database with the tables and views that the query names, all if it names none.

    Each table is at its newest version and stays there. The session's time zone is UTC; its
    configuration is locked, and it reaches nothing but the tables. Raises NeedsOperator if a table
    that the query needs does not exist, or none does.
    """
    connection = duckdb.connect(config={**_CONFIG, "memory_limit": f"{memory_mb}MiB"})
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
    if not registered:
        raise NeedsOperator(
            f"there are no tables under {store.root}: start `varve up` or an ingest job once, or"
            " correct --home or storage.root"
        )
    for view in VIEWS:
        if view in wanted and bases[view] <= registered:
            connection.execute(f"CREATE VIEW {view} AS {view_sql(view, 'duckdb')}")
    # Views and TIMESTAMP columns are UTC; now() would be the machine's time zone beside them.
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _words(query: str) -> set[str]:
    """Every word outside comments. All tables that the query can mean are among them."""
    code = _COMMENT_OR_QUOTED.sub(
        lambda found: " " if found[0].startswith(("--", "/*")) else found[0], query
    )
    return set(_WORD.findall(code.lower()))
