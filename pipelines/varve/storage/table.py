"""A handle on one table: create it, let it gain columns, ask its positions and live files."""

from __future__ import annotations

import time

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES, table_schema
from varve.storage.store import Store

# Log files are expired by a job that knows every reader's position, never by a commit.
PROPERTIES = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "100",
}


class Table:
    """One table as of the last `refresh`. Not safe to share between threads."""

    def __init__(self, store: Store, name: str) -> None:
        """Raises NeedsOperator if the table does not exist."""
        self.store = store
        self.name = name
        self.schema = table_schema(name)
        try:
            self.delta = DeltaTable(store.uri(name), storage_options=dict(store.options))
        except TableNotFoundError as err:
            raise NeedsOperator(
                f"no table {name} under {store.root}: start `varve up` or an ingest job once,"
                " or correct storage.root"
            ) from err

    @property
    def version(self) -> int:
        return self.delta.version()

    def refresh(self) -> None:
        """Moves to the newest version."""
        self.delta.update_incremental()

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id; None if it has never been set."""
        return self.delta.transaction_version(transaction)

    def live_files(self) -> pa.Table:
        """One row a live file: path, size_bytes, num_records, min.COLUMN, max.COLUMN."""
        return pa.table(self.delta.get_add_actions(flatten=True))


def create_tables(store: Store, names: tuple[str, ...] = TABLES) -> None:
    """Creates what is missing and adds columns the schemas have gained. Safe to repeat and to race.

    Raises NeedsOperator where a table has columns its schema does not know or of another type.
    """
    for name in names:
        _create(store, name)
        _evolve(Table(store, name))


def _create(store: Store, name: str) -> None:
    schema = table_schema(name)
    store.prepare(name)
    DeltaTable.create(
        store.uri(name),
        schema=Schema.from_json(schema.delta_json),
        mode="ignore",
        name=name,
        description=schema.comment,
        configuration=PROPERTIES,
        storage_options=dict(store.options),
    )


def _evolve(table: Table) -> None:
    wanted = {f.name: f for f in Schema.from_json(table.schema.delta_json).fields}
    stored = {f.name: f for f in table.delta.schema().fields}
    for name, field in stored.items():
        if name not in wanted or str(wanted[name].type) != str(field.type):
            raise NeedsOperator(
                f"{table.store.uri(table.name)}: column {name} {field.type} is not in this release's"
                " schema: it was written by a newer release or by something else; use that release"
            )
    missing = [field for name, field in wanted.items() if name not in stored]
    if missing:
        table.delta.alter.add_columns(missing)


def wait_until_created(store: Store, name: str, deadline_s: float) -> Table:
    """The table, once somebody has created it. Raises NeedsOperator after deadline_s seconds."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            return Table(store, name)
        except (NeedsOperator, DeltaError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
