"""`varve serve rules` as a cluster runs it: a process of its own, a real broker, real tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from tests.tables import WrittenTables
from varve.local.broker import free_port
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.settings import Settings
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

# What a machine three times as slow needs, and more.
PATIENCE_S = 120


def await_that(condition: Callable[[], object], what: Callable[[], str] = str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what() or "it did not come true in time"
        time.sleep(0.05)


class IngestedTables:
    """Tables of a home that have some series, complete whenever `ingest` says so."""

    def __init__(self, root: str) -> None:
        self.written = WrittenTables(root)
        self._queries = tuple(Settings().sample_queries())
        self._defined: set[int] = set()

    def ingest(self, **values: float) -> None:
        """A sample of now for each metric; everything up to now is complete."""
        now_ms = int(time.time() * 1000)
        definitions = [define(metric, {}) for metric in values]
        if new := [d for d in definitions if d.series_id not in self._defined]:
            self.written.define(new)
            self._defined |= {d.series_id for d in new}
        store = self.written.store
        rows = [
            {"series_id": d.series_id, "ts": now_ms, "value": value}
            for d, value in zip(definitions, values.values(), strict=True)
        ]
        rows.sort(key=lambda row: row["series_id"])
        schema = table_schema("samples").arrow
        file = write_file(store, "samples", pa.Table.from_pylist(rows, schema))
        table = Table(store, "samples")
        steps = {
            name: Step(table.position(name), now_ms)
            for name in map(positions.complete, self._queries)
        }
        commit(table, [file], transactions=steps)


class RulesProcess:
    """One process; `home` has its status, the tables lie elsewhere."""

    def __init__(
        self,
        home: Path,
        servers: str,
        root: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        **settings: object,
    ) -> None:
        self.port = free_port()
        self.log = home.with_suffix(".log")
        home.mkdir(exist_ok=True)
        given = {
            "HOME": home,
            "RULES__PORT": self.port,
            "KAFKA__BOOTSTRAP_SERVERS": servers,
            "STORAGE__ROOT": root,
            **settings,
        }
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **{f"VARVE_{name}": str(value) for name, value in given.items()},
            **environment,
        }
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "varve.cli", "serve", "rules"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body; 0 while nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as err:
            return err.code, err.read().decode()
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return 0, ""

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)
