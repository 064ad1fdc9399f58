"""SQL over the tables and views in DuckDB, without Java. Each table is read at one version."""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES
from varve.model.views import VIEWS, view_sql
from varve.storage.snapshot import Snapshot, colder_versions, snapshot, snapshot_of
from varve.storage.state import load
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


def tables_of(
    store: Store, query: str, versions: Mapping[str, int] | None = None
) -> dict[str, Snapshot]:
    """The tables that a query needs by name, all there are if it names no table or view.

    versions: those to read, if any, in each root as Snapshot.versions has them; else each is at its
    newest version. Raises NeedsOperator if a table that the query needs does not exist or has no
    such version, or if there is none at all.
    """
    named = _words(query) & {*TABLES, *VIEWS}
    wanted = named or {*TABLES, *VIEWS}
    tables = (wanted & set(TABLES)).union(*(_bases(view) for view in wanted & set(VIEWS)))
    found = {}
    # The table series last: its definitions then cover all that the other tables hold.
    for table in sorted(tables, key=lambda name: (name == "series", name)):
        if versions and table not in versions:
            if named:
                raise NeedsOperator(f"as_of names no version of {table}: leave it out")
            continue
        try:
            found[table] = _at(store, table, versions) if versions else snapshot(store, table)
        except NeedsOperator:
            if named:
                raise
    if not found:
        raise NeedsOperator(
            f"there are no tables under {store.root}: start `varve up` or an ingest job once, or"
            " correct --home or storage.root"
        )
    return found


def _at(store: Store, table: str, versions: Mapping[str, int]) -> Snapshot:
    state = load(store, table, version=versions[table])
    if state is None:
        raise NeedsOperator(f"no table {table} under {store.root}")
    return snapshot_of(store, table, state, colder_versions(table, versions))


def connect(
    store: Store,
    query: str,
    memory_mb: int = DEFAULT_MEMORY_MB,
    tables: Mapping[str, Snapshot] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Opens a database with the tables and views that the query names, all if it names none.

    tables: those of `tables_of`, which are found if it is None. Each stays at its version. The
    session's time zone is UTC; its configuration is locked, and it reaches nothing but the tables.
    Raises NeedsOperator as `tables_of`.
    """
    found = tables_of(store, query) if tables is None else tables
    connection = duckdb.connect(config={**_CONFIG, "memory_limit": f"{memory_mb}MiB"})
    for name, table in found.items():
        connection.register(name, table.arrow_dataset())
    named = _words(query) & {*TABLES, *VIEWS}
    for view in VIEWS:
        if (not named or view in named) and _bases(view) <= found.keys():
            connection.execute(f"CREATE VIEW {view} AS {view_sql(view, 'duckdb')}")
    # Views and TIMESTAMP columns are UTC; now() would be the machine's time zone beside them.
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _bases(view: str) -> set[str]:
    """The tables that a view is made of."""
    return _words(view_sql(view, "duckdb")) & set(TABLES)


def _words(query: str) -> set[str]:
    """Every word outside comments. All tables that the query can mean are among them."""
    code = _COMMENT_OR_QUOTED.sub(
        lambda found: " " if found[0].startswith(("--", "/*")) else found[0], query
    )
    return set(_WORD.findall(code.lower()))
