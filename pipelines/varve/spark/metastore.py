"""Tables and views in a Hive-compatible metastore: external ones, over the tables where they lie.

Whoever asks the metastore (Spark SQL, Trino, Hive) then knows them by name. Nothing is copied, and
dropping one deletes no row. With colder roots each table is one for each root (samples_hot,
samples_cold), and a view of all of them has its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyspark.sql import SparkSession

from varve.model.errors import BadRequest
from varve.model.schema import TABLES, table_schema
from varve.model.views import VIEWS, view_sql
from varve.storage.state import load
from varve.storage.store import Store

Kind = Literal["table", "view"]

_NAMES = {1: ("",), 2: ("_hot", "_cold"), 3: ("_hot", "_warm", "_cold")}
# What Spark's catalog calls them.
_KINDS: Mapping[str, Kind] = {"EXTERNAL": "table", "MANAGED": "table", "VIEW": "view"}
# What becomes of a view, by what has its name.
_STATES_OF_VIEWS: Mapping[Kind | None, str] = {None: "created", "table": "replaced", "view": "kept"}


@dataclass(frozen=True, slots=True)
class Registered:
    """What was done with each name: created, replaced, or kept as it was."""

    database: str
    created: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {
            "database": self.database,
            "created": list(self.created),
            "replaced": list(self.replaced),
            "kept": list(self.kept),
        }

    def lines(self) -> Iterable[str]:
        for what, names in (("created", self.created), ("replaced", self.replaced)):
            if names:
                yield f"{what}: {', '.join(names)}"
        yield f"{len(self.kept)} tables of {self.database} were as they should be"


def register(spark: SparkSession, store: Store, database: str) -> Registered:
    """Registers every table there is, and the views, in a database, which is made if need be. Safe
    to repeat: what is registered already stays, at a new place or of a new release it is replaced.

    Raises BadRequest if the name is none of a database.
    """
    if not database.isidentifier():
        raise BadRequest(f"{database!r} is no name of a database: letters, digits and _")
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    before = spark.catalog.currentDatabase()
    spark.catalog.setCurrentDatabase(database)
    done: dict[str, list[str]] = {"created": [], "replaced": [], "kept": []}
    try:
        found = [table for table in spark.catalog.listTables() if not table.isTemporary]
        known = {table.name: _KINDS.get(table.tableType, "table") for table in found}
        tables = list(_tables(store))
        for name, root in tables:
            location = _location(root, name.table)
            state = _state(spark, name.registered, location, known.get(name.registered))
            done[state].append(name.registered)
            if state == "replaced":
                _drop(spark, name.registered, known[name.registered])
            if state != "kept":
                spark.sql(
                    f"CREATE TABLE `{name.registered}` USING DELTA LOCATION {_quoted(location)}"
                )
        for view, sql in _views(name for name, _ in tables):
            kind = known.get(view)
            if kind == "table":
                _drop(spark, view, kind)
            done[_STATES_OF_VIEWS[kind]].append(view)
            spark.sql(f"CREATE OR REPLACE VIEW `{view}` AS {sql}")
    finally:
        spark.catalog.setCurrentDatabase(before)
    return Registered(database, *(tuple(done[what]) for what in ("created", "replaced", "kept")))


@dataclass(frozen=True, slots=True)
class _Name:
    table: str
    registered: str


def _tables(store: Store) -> Iterator[tuple[_Name, Store]]:
    """The tables that exist, in each root, by the name they are registered under."""
    roots = store.roots()
    for table in TABLES:
        there = [root for root in roots if load(root, table, files=False) is not None]
        for root, suffix in zip(roots, _NAMES[len(roots)], strict=True):
            if root in there:
                registered = f"{table}{suffix}" if len(there) > 1 else table
                yield _Name(table, registered), root


def _views(names: Iterable[_Name]) -> Iterator[tuple[str, str]]:
    """The views over several roots, then those of schemas/views."""
    registered: dict[str, list[str]] = {}
    for name in names:
        registered.setdefault(name.table, []).append(name.registered)
    for table, parts_of_it in registered.items():
        if len(parts_of_it) > 1:
            columns = ", ".join(f"`{c.name}`" for c in table_schema(table).stored_columns)
            parts = (f"SELECT {columns} FROM `{part}`" for part in parts_of_it)  # noqa: S608 - our names
            yield table, " UNION ALL ".join(parts)
    for view in VIEWS:
        yield view, view_sql(view, "spark")


def _state(spark: SparkSession, name: str, location: str, kind: Kind | None) -> str:
    if kind is None:
        return "created"
    if kind == "view":
        return "replaced"
    (found,) = spark.sql(f"DESCRIBE DETAIL `{name}`").select("location").collect()
    return "kept" if found[0].rstrip("/") == _as_uri(location) else "replaced"


def _drop(spark: SparkSession, name: str, kind: Kind) -> None:
    spark.sql(f"DROP {kind.upper()} IF EXISTS `{name}`")


def _location(root: Store, table: str) -> str:
    """As Spark takes it: an object store of S3 is s3a:// there."""
    return root.uri(table).replace("s3://", "s3a://", 1)


def _as_uri(location: str) -> str:
    """As Delta tells it."""
    return location if "://" in location else f"file:{location}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
