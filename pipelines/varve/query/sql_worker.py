"""The process that runs one SQL statement and ends: `python -m varve.query.sql_worker`.

It reads one line of JSON, and writes a line of JSON about the answer, then the answer. It may write
no file; when whoever started it is gone, so is it. What it is given names storage and its secrets,
so that comes by its standard input.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Literal

import duckdb
import pyarrow as pa

from varve.model.errors import BadRequest, NeedsOperator
from varve.query.sql import connect, tables_of
from varve.query.sql_statement import require_select
from varve.query.sql_values import plain
from varve.storage.store import Store

Form = Literal["json", "arrow"]

_BATCH = 5_000
# What Python and Arrow take beside DuckDB, which counts its own memory.
_BESIDE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Task:
    """One statement, where its tables are, and what it may take. roots: each with its options, the
    hot one first. versions: of tables to read, the newest of others; empty for the newest of all.
    """

    query: str
    roots: Sequence[tuple[str, Mapping[str, str]]]
    versions: Mapping[str, int]
    form: Form
    memory_mb: int
    most_rows: int
    most_bytes: int
    cpu_s: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class _TooMuch(Exception):
    """The answer is over a bound."""


def main() -> None:
    given, answer = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(OSError):  # if memory runs out, of all processes this one goes
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
        os.nice(5)  # who asks in PromQL comes first
    line = given.readline()
    if not line:
        return  # it was not needed
    threading.Thread(target=_end_with, args=(given,), daemon=True).start()
    task = Task(**json.loads(line))
    _bound(task)
    head, body = _answer(task)
    answer.write(json.dumps(head).encode() + b"\n")
    answer.write(body)
    answer.flush()
    os._exit(0)  # threads that still read are not waited for


def _end_with(given: BinaryIO) -> None:
    """Ends the process when the other end of its input does."""
    given.read()
    os._exit(1)


def _bound(task: Task) -> None:
    limits = (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, task.cpu_s),
        (resource.RLIMIT_DATA, (task.memory_mb << 20) + _BESIDE_BYTES),
    )
    for which, most in limits:
        resource.setrlimit(which, (most, most))


def _answer(task: Task) -> tuple[dict[str, Any], bytes]:
    """What the head says, and the body; an error has none."""
    try:
        require_select(task.query)
        store = Store.of_roots(task.roots)
        tables = tables_of(store, task.query, task.versions)
        versions = {name: v for table in tables.values() for name, v in table.versions.items()}
        with connect(store, task.query, task.memory_mb, tables) as connection:
            result = connection.execute(task.query)
            write = _json if task.form == "json" else _arrow
            return {"versions": versions}, write(result, task)
    except _TooMuch as err:
        return {"error": str(err), "kind": "execution"}, b""
    except (BadRequest, NeedsOperator) as err:
        return {"error": str(err), "kind": "bad_data"}, b""
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        text = f"the statement takes over query.sql_memory_mb = {task.memory_mb:,}"
        return {"error": text, "kind": "execution"}, b""
    except duckdb.Error as err:
        is_of_parser = isinstance(err, duckdb.ProgrammingError)
        return {"error": str(err), "kind": "bad_data" if is_of_parser else "execution"}, b""
    except Exception as err:  # noqa: BLE001 - whoever asked hears of it, and the process ends
        return {"error": f"{type(err).__name__}: {err}", "kind": "internal"}, b""


def _json(result: duckdb.DuckDBPyConnection, task: Task) -> bytes:
    """An object of `columns`, each with name and type, and `rows`, each a list of values."""
    columns = [{"name": c[0], "type": str(c[1])} for c in result.description or ()]
    out = _Bounded(task)
    out.write(b'{"columns":' + json.dumps(columns, ensure_ascii=False).encode() + b',"rows":[')
    separator = b""
    while rows := result.fetchmany(_BATCH):
        out.count(len(rows))
        for row in rows:
            text = json.dumps(plain(list(row)), ensure_ascii=False, default=str)
            out.write(separator + text.encode("utf-8", "replace"))
            separator = b","
    out.write(b"]}")
    return out.content()


def _arrow(result: duckdb.DuckDBPyConnection, task: Task) -> bytes:
    """An Arrow IPC stream."""
    out = _Bounded(task)
    batches: pa.RecordBatchReader = result.to_arrow_reader(_BATCH)
    with pa.ipc.new_stream(_Sink(out.write), batches.schema) as stream:
        for batch in batches:
            out.count(batch.num_rows)
            stream.write_batch(batch)
    return out.content()


class _Bounded:
    """What is written, up to the bounds of a task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rows = 0
        self._out = io.BytesIO()

    def count(self, rows: int) -> None:
        self._rows += rows
        most = self._task.most_rows
        if self._rows > most:
            raise _TooMuch(f"the answer has over query.sql_max_rows = {most:,} rows: use LIMIT")

    def write(self, some: bytes) -> None:
        self._out.write(some)
        most = self._task.most_bytes
        if self._out.tell() > most:
            text = f"the answer has over query.sql_max_mb = {most >> 20:,} MiB"
            raise _TooMuch(f"{text}: ask for fewer rows or columns")

    def content(self) -> bytes:
        return self._out.getvalue()


class _Sink(io.RawIOBase):
    """A file for Arrow that hands on what is written to it."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, some: Any) -> int:
        self._write(bytes(some))
        return len(some)


if __name__ == "__main__":
    main()
