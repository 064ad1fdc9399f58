"""A handle on one table: create it, let it gain columns, ask its positions and live files."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES, table_schema
from varve.storage import checkpoint
from varve.storage.log import LiveFile, LogEntry, LogExpired, encode, file_name, newer, parse
from varve.storage.protocol import PROTOCOL, require_writable
from varve.storage.state import load
from varve.storage.store import Store


class _Mark(NamedTuple):
    folder: str
    name: str


UNFINISHED = _Mark("_restore", "unfinished.json")
"""The file of a root that says that its tables are being restored from a backup."""


class Table:
    """One table as of the last `refresh`. Not safe to share between threads."""

    def __init__(self, store: Store, name: str, *, files: bool = False) -> None:
        """files: read the live files at once, not on first use.

        Raises NeedsOperator if the table does not exist.
        """
        self.store = store
        self.name = name
        self.schema = table_schema(name)
        state = load(store, name, files=files)
        if state is None:
            raise NeedsOperator(
                f"no table {name} under {store.root}: start `varve up` or an ingest job once,"
                " or correct storage.root"
            )
        self._state = state

    @property
    def version(self) -> int:
        return self._state.version

    @property
    def id(self) -> str:
        """Delta's id of the table: another if it is made anew."""
        return str(self._state.table_metadata["id"])

    @property
    def columns(self) -> dict[str, Any]:
        """Fields of the stored schema by name, as in Delta's schema JSON."""
        fields = json.loads(self._state.table_metadata["schemaString"])["fields"]
        return {f["name"]: f for f in fields}

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties, as of Delta's `configuration`."""
        return self._state.table_metadata.get("configuration") or {}

    def refresh(self) -> list[LogEntry] | None:
        """Moves to the newest version. Returns what came since, oldest first; None if the log in
        between has expired and the state was read anew.
        """
        try:
            fresh = list(newer(self.store, self.name, self.version))
        except LogExpired:
            state = load(self.store, self.name, files=self._state.files is not None)
            if state is None:
                raise
            self._state = state
            return None
        for entry in fresh:
            self._state.apply(entry)
        return fresh

    def require_writable(self) -> None:
        """Raises NeedsOperator if another program has made the table one that Varve must not
        write to.
        """
        where = self.store.uri(self.name)
        require_writable(where, self._state.protocol, self._state.table_metadata)

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id; None if it has never been set."""
        return self._state.positions.get(transaction)

    def positions(self) -> Mapping[str, int]:
        """Versions by transaction id."""
        return dict(self._state.positions)

    def live_files(self) -> Mapping[str, LiveFile]:
        """By path. Read on first use, then kept up by `refresh`; not a copy."""
        if self._state.files is None:
            state = load(self.store, self.name, version=self.version)
            if state is None or state.files is None:
                raise NeedsOperator(f"{self.store.uri(self.name)} is gone: restore it")
            self._state = state
        return self._state.files or {}

    def write_next(
        self,
        operation: str,
        actions: Iterable[Mapping[str, Any]],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Writes the version after this handle's, unless a rival has. True if it is ours.

        For `commit` and this module alone: it checks nothing but the version and that the table is
        one to write to. False leaves the handle where it is: `refresh` tells who won. Raises
        NeedsOperator like `require_writable`, StorageFull if nothing was written for want of room,
        and any other OSError if the outcome cannot be found out; the version may be there, or
        still arrive.
        """
        self.require_writable()
        body = encode(uuid.uuid4().hex, operation, actions, metadata)
        version = self.version + 1
        path = file_name(version)
        try:
            won = self.store.put_if_absent(self.name, path, body)
        except OSError:
            # The answer may have been lost and not the request.
            if not self.store.exists(self.name, path):
                raise
            won = False
        # Refused and still ours: something underneath sent the request twice.
        if won or self.store.read(self.name, path) == body:
            self._state.apply(parse(version, body))
            growth = checkpoint.write_if_due(self.store, self.name, self._state.growth, version)
            self._state.growth = growth
            return True
        return False

    def set_metadata(self, change: Mapping[str, Any]) -> bool:
        """Changes fields of Delta's metaData action; like `write_next` otherwise."""
        new = {"metaData": {**self._state.table_metadata, **change}}
        return self.write_next("CHANGE METADATA", [new])


def existing(store: Store, names: Iterable[str]) -> list[Table]:
    """Handles on those of the tables that exist."""
    return [Table(store, name) for name in names if load(store, name, files=False) is not None]


def create_tables(store: Store, names: tuple[str, ...] = TABLES) -> None:
    """Creates what is missing, and adds the columns and properties that tables have gained since
    they were created. Safe to repeat and to race.

    Raises NeedsOperator where a table has columns its schema does not know or of another type, or
    features that Varve does not write, where the object store cannot refuse to overwrite a file, or
    where a restore was cut off.
    """
    store.require_conditional_put()
    if store.exists(UNFINISHED.folder, UNFINISHED.name):
        raise NeedsOperator(
            f"{store.root}: a restore was cut off: run `varve restore` again, which finishes it"
        )
    for name in names:
        _create(store, name)
        _evolve(Table(store, name))


def _create(store: Store, name: str) -> None:
    if load(store, name, files=False) is not None:
        return
    schema = table_schema(name)
    table_metadata = {
        "id": str(uuid.uuid4()),
        "name": name,
        "description": schema.comment,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.delta_json,
        "partitionColumns": [],
        "configuration": checkpoint.PROPERTIES,
        "createdTime": int(time.time() * 1000),
    }
    actions: list[dict[str, Any]] = [{"protocol": PROTOCOL}, {"metaData": table_metadata}]
    store.prepare(name)
    # If a rival creates it first, that is as good.
    store.put_if_absent(name, file_name(0), encode(uuid.uuid4().hex, "CREATE TABLE", actions))


def _evolve(table: Table) -> None:
    while True:
        table.require_writable()
        change = _lacking_properties(table) | _lacking_columns(table)
        if not change or table.set_metadata(change):
            return
        table.refresh()


def _lacking_columns(table: Table) -> dict[str, str]:
    """The change of metaData that adds the columns the schema has gained."""
    wanted = json.loads(table.schema.delta_json)["fields"]
    stored, known = table.columns, {field["name"]: field for field in wanted}
    for name, field in stored.items():
        if name not in known or known[name]["type"] != field["type"]:
            raise NeedsOperator(
                f"{table.store.uri(table.name)}: column {name} {field['type']} is not in this"
                " release's schema: it was written by a newer release or by something else;"
                " use that release"
            )
    # Rows written before have no value for a new column.
    missing = [f | {"nullable": True} for f in wanted if f["name"] not in stored]
    if not missing:
        return {}
    return {"schemaString": json.dumps({"type": "struct", "fields": [*stored.values(), *missing]})}


def _lacking_properties(table: Table) -> dict[str, dict[str, str]]:
    """The change of metaData that adds the properties it lacks; one that was set stays."""
    stored = table.properties
    if stored.keys() >= checkpoint.PROPERTIES.keys():
        return {}
    return {"configuration": checkpoint.PROPERTIES | stored}
