from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from varve.storage import checkpoint
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile, write_file
from varve.storage.log import encode
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


class Bench:
    """A store with an empty table `samples`, and short ways to fill it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        create_tables(store, ("samples", "series"))

    def table(self) -> Table:
        return Table(self.store, "samples")

    def grow(self, until: int) -> Table:
        """Commits without files up to that version; returns once all checkpoints are written."""
        table = self.table()
        while table.version < until:
            stored = table.position("a")
            commit(table, [], transactions={"a": Step(stored, table.version + 1)})
        self.settle()
        return table

    def fill(self, until: int, files: Sequence[int]) -> Table:
        """Versions up to `until`, with a checkpoint each hundred; those of `files` add a file.

        The log is written directly: no waiting for the disk.
        """
        table = self.table()
        for version in range(1, until + 1):
            if version in files:
                table.refresh()
                step = Step(table.position("b"), version)
                commit(table, [self.file([version])], transactions={"b": step})
            else:
                txn = {"txn": {"appId": "a", "version": version}}
                self.log(version).write_bytes(encode(f"{version}", "WRITE", [txn]))
            if version % 100 == 99:
                checkpoint.write(self.store, "samples", version)
        self.settle()
        table.refresh()
        return table

    def settle(self) -> None:
        """Waits for the checkpoints under way."""
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join(60)

    def log(self, name: str | int) -> Path:
        """A file of the log, by its name or its version."""
        path = name if isinstance(name, str) else f"{name:020d}.json"
        return Path(self.store.uri("samples")) / "_delta_log" / path

    def checkpoint(self, version: int) -> Path:
        return self.log(f"{version:020d}.checkpoint.parquet")

    def file(self, times: Sequence[int], series: int = 1) -> NewFile:
        rows = {"series_id": [series] * len(times), "ts": list(times), "value": map(float, times)}
        return write_file(self.store, "samples", rows_of(rows))


def rows_of(columns: dict) -> pa.Table:
    types = {"series_id": pa.int64(), "ts": pa.int64(), "value": pa.float64()}
    return pa.table({name: pa.array(list(columns[name]), types[name]) for name in types})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(str(tmp_path / "tables")))
