"""What known series cost: `python tests/benchmarks/bench_series.py [--series 1000000 10000000]`.

For each number of series: a table of so many, then the time and memory of the first process that
starts on the machine and of one that comes later, membership checks a second, and what a batch
costs of which 1 % of all series are new. Times are CPU seconds of the process that does the work,
memory what is its own (anonymous) and with its share of what it maps (PSS).
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.plans import open_registry
from varve.ingest.active_series import census
from varve.ingest.limits import Limits
from varve.ingest.mapped_runs import KNOWN, RunFolder
from varve.ingest.series_id_index import SeriesIdIndex
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS
from varve.query.cardinality import report as report_of
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

FILE_ROWS = 500_000
METRICS = 200
HOURS = 4
NOW_MS = 1_800_000_000_000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--scratch", type=Path, help="folder for the tables")
    args = parser.parse_args()
    for count in args.series:
        folder = Path(tempfile.mkdtemp(prefix="bench-series-", dir=args.scratch))
        try:
            measure(Store(str(folder)), count)
        finally:
            shutil.rmtree(folder)


def measure(store: Store, count: int) -> None:
    fill(store, count)
    say(f"{count:,} series in {len(Table(store, 'series').live_files())} files")
    report("first start", apart(start, store))
    runs = list(RunFolder(store).path.glob("*.run"))
    size = sum(run.stat().st_size for run in runs)
    say(f"  files of known series  {size / count:.2f} bytes a series in {len(runs)} files")
    report("later start", apart(start, store))
    together = at_once(store, 3)
    say(f"  three at once          {together / MIB:.0f} MiB PSS together")
    report("registry", apart(start_registry, store))
    report(f"census of {HOURS} hours", apart(count_active, store))
    if count <= 2_000_000:
        report("varve cardinality", apart(tell, store))
    for size in (10_000, 1_000_000):
        cpu = apart(look_up, store, size)
        say(f"  look-ups, {size:>9,}    {cpu / size * 1e6:.3f} CPU s a million")
    for new in (count // 1000, count // 100):
        churned = apart(churn, store, new)
        say(f"  churn, {new:>9,} new  " + ", ".join(f"{v:.3f} {k}" for k, v in churned.items()))


def report(name: str, figures: dict[str, float]) -> None:
    memory = f"{figures['pss'] / MIB:.0f} MiB PSS, {figures['own'] / MIB:.0f} its own"
    peak = f"peak RSS {figures['peak'] / MIB:.0f} MiB"
    say(f"  {name:22} {figures['wall']:.2f} s, {figures['cpu']:.2f} CPU s, {memory}, {peak}")


def start(store: Store) -> dict[str, float]:
    """Opens what is known and looks through all of it."""
    known: Any = None

    def work() -> None:
        nonlocal known
        known = SeriesIdIndex(store)
        np.sum([run.ids.sum() + run.checks.sum() for run in known._runs])

    return timed(work)


def at_once(store: Store, processes: int) -> float:
    """PSS of processes that all have opened what is known and looked through it."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(processes) as pool:
        gate = manager.Barrier(processes)
        return sum(pool.starmap(start_beside, [(store, gate)] * processes, chunksize=1))


def start_beside(store: Store, gate: Any) -> float:
    known = SeriesIdIndex(store)
    np.sum([run.ids.sum() + run.checks.sum() for run in known._runs])
    gate.wait()
    pss = psutil.Process().memory_full_info().pss
    gate.wait()
    return float(pss)


def start_registry(store: Store) -> dict[str, float]:
    kept = []
    return timed(lambda: kept.append(open_registry(store)))


def count_active(store: Store) -> dict[str, float]:
    kept = []
    figures = timed(lambda: kept.append(census(store, HOURS * HOUR_MS)))
    assert kept[0].active.total() == kept[0].registered
    return figures


def tell(store: Store) -> dict[str, float]:
    limits = {"active_ms": HOURS * HOUR_MS, "now_ms": NOW_MS, "top": 10, "metric": None}
    return timed(lambda: report_of(store, Limits(), **limits))


def look_up(store: Store, size: int) -> float:
    known = SeriesIdIndex(store)
    rng = np.random.default_rng(2)
    run = known._runs[0]
    chosen = rng.integers(0, len(run), size)
    ids, checks = run.ids[chosen], run.checks[chosen]
    assert (known.status(ids, checks) == KNOWN).all()
    begun = time.process_time()
    for _ in range(5):
        known.status(ids, checks)
    return (time.process_time() - begun) / 5


def churn(store: Store, new: int) -> dict[str, float]:
    """CPU seconds of a batch: the driver registers, a worker follows."""
    registry, worker = open_registry(store), SeriesIdIndex(store)
    seconds = {"s to register": [], "s to follow": [], "s to ask for what is known": []}
    for number in range(4):
        pods = [
            define(
                f"metric_{n % METRICS}",
                {"pod": f"pod-{new}-{number}-{n}", "cluster": "a", "node": f"node-{n % 500}"},
            )
            for n in range(new)
        ]
        ids = np.array([p.series_id for p in pods])
        checks = np.array([p.check for p in pods], np.int32)
        steps: list[Callable[[], Any]] = [
            lambda pods=pods: registry.register([(pod, NOW_MS) for pod in pods]),
            lambda: worker.advance(registry.index.version),
            lambda ids=ids, checks=checks: worker.status(ids, checks),
        ]
        for times, step in zip(seconds.values(), steps, strict=True):
            begun = time.process_time()
            step()
            times.append(time.process_time() - begun)
        assert (worker.status(ids, checks) == KNOWN).all()
    return {name: sum(times) / len(times) for name, times in seconds.items()}


def timed(work: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.monotonic(), time.process_time()
    work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    memory = psutil.Process().memory_full_info()
    status = Path("/proc/self/status").read_text()
    peak, own = (
        int(status.split(f"{name}:")[1].split()[0]) * 1024 for name in ("VmHWM", "RssAnon")
    )
    return {"wall": wall, "cpu": cpu, "pss": memory.pss, "own": own, "peak": peak}


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def fill(store: Store, count: int) -> None:
    create_tables(store, ("series", "quarantine", "rollup_1h"))
    rng = np.random.default_rng(1)
    table, everybody = Table(store, "series"), []
    schema = table_schema("series").arrow
    for number, begin in enumerate(range(0, count, FILE_ROWS)):
        rows = min(FILE_ROWS, count - begin)
        metric = rng.integers(0, METRICS, rows)
        prefix = metric.astype(np.int64) * 20 - 2048
        ids = np.sort((prefix << 52) | rng.integers(0, 1 << 52, rows))
        metric = ((ids >> 52) + 2048) // 20
        pods = pa.array(np.char.add("pod-", np.arange(begin, begin + rows).astype(str)))
        nodes = pa.array([f"node-{n}" for n in range(500)]).take(np.arange(rows) % 500)
        items = pa.concat_arrays([pods, nodes, pa.repeat("a", rows)])
        items = items.take(np.arange(3 * rows).reshape(3, rows).T.ravel())
        keys = pa.DictionaryArray.from_arrays(
            np.tile(np.arange(3, dtype=np.int32), rows), ["pod", "node", "cluster"]
        ).cast(pa.string())
        names = pa.array([f"metric_{n}" for n in range(METRICS)]).take(metric)
        columns = {
            "series_id": ids,
            "check": rng.integers(-(2**31), 2**31, rows).astype(np.int32),
            "metric": names,
            "tags": pa.MapArray.from_arrays(
                np.arange(0, 3 * rows + 1, 3, dtype=np.int32), keys, items
            ),
            "type": pa.repeat("gauge", rows),
            "unit": pa.repeat("", rows),
            "help": pa.repeat("", rows),
            "first_seen": np.full(rows, NOW_MS),
            "last_seen": np.full(rows, NOW_MS),
        }
        file = write_file(store, "series", pa.table(columns).cast(schema))
        held = table.position("registry")
        commit(table, [file], transactions={"registry": Step(held, number)})
        everybody.append(ids)
    close_hours(store, np.sort(np.concatenate(everybody)))


def close_hours(store: Store, ids: np.ndarray) -> None:
    """HOURS rows of rollup_1h for every series, all columns but the key zero."""
    schema, table = table_schema("rollup_1h").arrow, Table(store, "rollup_1h")
    for hour in range(1, HOURS + 1):
        files = []
        for part in np.array_split(ids, max(1, len(ids) // 1_000_000)):
            columns = {
                f.name: pa.nulls(len(part), f.type) if f.nullable else np.zeros(len(part), np.int64)
                for f in schema
            }
            columns |= {
                "series_id": part,
                "window_end": np.full(len(part), NOW_MS + hour * HOUR_MS),
            }
            files.append(write_file(store, "rollup_1h", pa.table(columns).cast(schema)))
        held = table.position("frontier:1h")
        step = Step(held, NOW_MS + hour * HOUR_MS)
        commit(table, files, transactions={"frontier:1h": step})


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
