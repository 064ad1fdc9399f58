"""Measures tables and their logs for the metrics: a thread looks at them every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from varve.model.errors import NeedsOperator
from varve.storage import checkpoint
from varve.storage.log import LiveFile
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table
from varve.telemetry.metrics import TableMetrics

log = logging.getLogger(__name__)

EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one version of a table: its live files, their rows and bytes."""

    version: int
    files: int
    rows: int
    bytes: int
    log: int
    """Versions since the last checkpoint."""


class TableSize:
    """Follows one table without keeping its files in memory. Not safe to share by threads."""

    def __init__(self, store: Store, name: str) -> None:
        """Raises NeedsOperator if the table does not exist."""
        self._store, self._name = store, name
        self._files = self._rows = self._bytes = 0
        self._table = self._count()

    def look(self) -> Size:
        """The size of the newest version. Raises OSError if the storage is out of reach."""
        fresh = self._table.refresh()
        if fresh is None or any(entry.removes for entry in fresh):
            # The log does not say what a removed file held: all is counted again, which is rare.
            self._table = self._count()
        else:
            for entry in fresh:
                self._add((*entry.adds, *entry.replacements))
        version = self._table.version
        return Size(version, self._files, self._rows, self._bytes, version - self._checkpoint())

    def _count(self) -> Table:
        """Counts all live files; returns a handle at the version that was counted."""
        table = Table(self._store, self._name)
        self._files = self._rows = self._bytes = 0
        self._add(snapshot(self._store, self._name, table.version).files)
        return table

    def _add(self, files: Sequence[LiveFile]) -> None:
        self._files += len(files)
        self._rows += sum(file.rows for file in files)
        self._bytes += sum(file.size for file in files)

    def _checkpoint(self) -> int:
        """Version of the last checkpoint; -1 if there is none."""
        hint = checkpoint.read_hint(self._store, self._name)
        return -1 if hint is None else hint.version


class TableSizes:
    """Keeps the metrics of some tables up to date, in a thread of its own."""

    def __init__(
        self, store: Store, names: Sequence[str], metrics: TableMetrics, every_s: float = EVERY_S
    ) -> None:
        self._store, self._names, self._metrics = store, tuple(names), metrics
        self._every_s = every_s
        self._followed: dict[str, TableSize] = {}
        self._stop = threading.Event()
        for name in self._names:
            metrics.failures.labels(name)  # from 0 on, so that the first failure is an increase
        self._thread = threading.Thread(target=self._run, name="sizes of tables", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Looks at every table that exists, once. It counts a look that fails; the next may not."""
        for name in self._names:
            try:
                if name not in self._followed:
                    self._followed[name] = TableSize(self._store, name)
                size = self._followed[name].look()
            except NeedsOperator:
                self._followed.pop(name, None)  # not created yet, or gone
            except OSError as err:
                self._metrics.failures.labels(name).inc()
                log.warning("cannot look at the table %s: %s", name, err)
            else:
                self._show(name, size)

    def _show(self, name: str, size: Size) -> None:
        metrics = self._metrics
        metrics.version.labels(name).set(size.version)
        metrics.files.labels(name).set(size.files)
        metrics.rows.labels(name).set(size.rows)
        metrics.size.labels(name).set(size.bytes)
        metrics.log.labels(name).set(size.log)

    def _run(self) -> None:
        self.look()
        while not self._stop.wait(self._every_s):
            self.look()
