"""How long a query service takes to be ready over tables that have grown, and after a kill -9.

    python tests/benchmarks/bench_start.py [--files 100000] [--entries 43000] [--series 1000000]
        [--samples 15000000] [--s3-ms 30]

So many live files of samples were added by so many commits. The newest --samples are really there,
200,000 a file; older files exist in name only, as none is read before it is asked for. Prints the
seconds from the start of the process to the first answer of /-/ready that is 200, and to all of
these samples being in memory: of the first process on the machine, and of one after it was killed.
With --s3-ms the tables lie on an S3 (moto) that waits so many milliseconds before each answer.
Exits 1 if a start took 10 s, with --s3-ms 30 s, or more.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from tests.benchmarks.bench_first_query import service
from tests.benchmarks.bench_labels import rows
from tests.benchmarks.bench_log import file as named_only
from tests.benchmarks.bench_query import put
from tests.faulty_s3 import FaultyS3
from tests.tables import QUERY
from varve.model.schema import table_schema
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import fingerprint, write_file
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

AT_ONCE = 250_000
ROWS_A_FILE = 200_000
EVERY_MS = 15_000
# A start that is too slow is timed as well.
DEADLINE_S = 600.0
# Of a file that is no small one, and so not read into memory.
MANY_ROWS = 100_000_000


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="varve-start-") as folder:
        if args.s3_ms is None:
            return started(Path(folder), Store(f"{folder}/tables"), args, 10.0)
        with FaultyS3() as s3:
            store = Store(s3.root, s3.options)
            return started(Path(folder), store, args, 30.0, s3)


def started(
    folder: Path, store: Store, args: argparse.Namespace, most_s: float, s3: FaultyS3 | None = None
) -> int:
    began = time.perf_counter()
    fill(store, args)
    print(f"written in {time.perf_counter() - began:.0f} s", flush=True)
    settings = {f"VARVE_STORAGE__OPTIONS__{k}": v for k, v in store.options.items()}
    settings["VARVE_STORAGE__ROOT"] = store.root
    # Half of it is the head's.
    settings |= {"VARVE_QUERY__CACHE_MB": "1024", "VARVE_QUERY__MEMORY_MB": "4096"}
    if s3 is not None:
        s3.delay_s = args.s3_ms / 1000
    slow = False
    for name in ("first start", "after kill -9"):
        before = {child.pid for child in psutil.Process().children()}
        with service(folder, None, settings, DEADLINE_S) as (url, ready_s):
            began = time.perf_counter()
            held = await_samples(url, args.samples)
            in_memory_s = ready_s + time.perf_counter() - began
            (pid,) = {child.pid for child in psutil.Process().children()} - before
            used = psutil.Process(pid)
            cpu = sum(used.cpu_times()[:2])
            print(
                f"{name:16} ready {ready_s:6.2f} s; {held:,} MiB of samples {in_memory_s:6.2f} s;"
                f" {cpu:.1f} CPU s, resident {used.memory_info().rss >> 20:,} MiB",
                flush=True,
            )
            os.kill(pid, signal.SIGKILL)
        slow |= ready_s >= most_s
    return int(slow)


def await_samples(url: str, samples: int) -> int:
    """Waits until the head has so many samples, or grows no more for 5 s; returns its MiB."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    held, since = 0, time.monotonic()
    while held < 16 * samples and time.monotonic() < since + 5:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        line = next(line for line in text.splitlines() if 'memory_bytes{use="head"}' in line)
        now = int(float(line.rpartition(" ")[2]))
        if now != held:
            held, since = now, time.monotonic()
        time.sleep(0.05)
    return held >> 20


def fill(store: Store, args: argparse.Namespace) -> None:
    create_tables(store)
    for first in range(0, args.series, AT_ONCE):
        made = rows(first, min(AT_ONCE, args.series - first))
        schema = table_schema("series").arrow
        nothing = np.zeros(made.num_rows, dtype=np.int64)
        columns = [
            made.column(field.name)
            if field.name in made.column_names
            else pa.array(nothing).cast(field.type)
            for field in schema
        ]
        whole = pa.table(columns, schema=schema).sort_by("series_id")
        put(store, "series", [whole], {"registry": first // AT_ONCE})
        if first == 0:
            ids = np.sort(made.column("series_id").to_numpy())[:20_000]
    table, schema_of = Table(store, "samples"), fingerprint(table_schema("samples"))
    steps = {"bulk:topic:0": 0}
    named = args.files - args.samples // ROWS_A_FILE
    for entry in range(args.entries):
        share = range(named * entry // args.entries, named * (entry + 1) // args.entries)
        held = steps["bulk:topic:0"]
        step = {"bulk:topic:0": Step(held or None, held + 1)}
        files = [replace(named_only(i, schema_of), rows=MANY_ROWS) for i in share]
        commit(table, files, transactions=step)
        steps["bulk:topic:0"] = held + 1
    begin_ms = 2_000 * named + 100_000
    real = []
    for number in range(args.samples // ROWS_A_FILE):
        times = ROWS_A_FILE // len(ids)
        ts = begin_ms + EVERY_MS * (times * number + np.arange(times))
        real.append(
            write_file(
                store,
                "samples",
                pa.table(
                    [
                        pa.array(np.repeat(ids, len(ts))),
                        pa.array(np.tile(ts, len(ids))),
                        pa.array(np.tile(np.arange(len(ts)) * 1.5, len(ids))),
                    ],
                    schema=table_schema("samples").arrow,
                ),
            )
        )
    name = positions.complete(QUERY)
    commit(table, real, transactions={name: Step(table.position(name), begin_ms)})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=43_000)
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=15_000_000)
    parser.add_argument("--s3-ms", type=float, help="on an S3 that takes so long for an answer")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
