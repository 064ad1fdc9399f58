"""How large tables and their logs are: looked at now and then by a thread, for the metrics."""

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
    """Of the live files of a version. log: versions since the last checkpoint."""

    version: int
    files: int
    rows: int
    bytes: int
    log: int


class TableSize:
    """Follows one table without keeping its files in memory. For one thread."""

    def __init__(self, store: Store, name: str) -> None:
        """Raises NeedsOperator if the table does not exist."""
        self._store, self._name = store, name
        self._files = self._rows = self._bytes = 0
        self._table = self._count()

    def look(self) -> Size:
        """OSError if the storage is out of reach."""
        fresh = self._table.refresh()
        if fresh is None or any(entry.removes for entry in fresh):
            # What a removed file held is not in the log: rare enough to read all anew.
            self._table = self._count()
        else:
            for entry in fresh:
                self._add((*entry.adds, *entry.replacements))
        version = self._table.version
        return Size(version, self._files, self._rows, self._bytes, version - self._checkpoint())

    def _count(self) -> Table:
        """A handle at the version that was counted."""
        table = Table(self._store, self._name)
        self._files = self._rows = self._bytes = 0
        self._add(snapshot(self._store, self._name, table.version).files)
        return table

    def _add(self, files: Sequence[LiveFile]) -> None:
        self._files += len(files)
        self._rows += sum(file.rows for file in files)
        self._bytes += sum(file.size for file in files)

    def _checkpoint(self) -> int:
        """Version of the last one; -1 if there is none."""
        hint = checkpoint.read_hint(self._store, self._name)
        return -1 if hint is None else hint.version


class TableSizes:
    """Keeps the metrics of some tables, in a thread of its own."""

    def __init__(
        self, store: Store, names: Sequence[str], metrics: TableMetrics, every_s: float = EVERY_S
    ) -> None:
        self._store, self._names, self._metrics = store, tuple(names), metrics
        self._every_s = every_s
        self._followed: dict[str, TableSize] = {}
        self._stop = threading.Event()
        for name in self._names:
            metrics.failures.labels(name)  # from 0 on: the first failure is an increase
        self._thread = threading.Thread(target=self._run, name="sizes of tables", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Once at every table that exists. A look that fails is counted, and made again later."""
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
