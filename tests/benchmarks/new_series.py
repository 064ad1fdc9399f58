"""Millions of new series in one batch: what the driver's JVM and Python take for them.

    python tests/benchmarks/new_series.py [--series 3000000] [--metrics 50] [--heap-mb 1024]

A broker of its own has a sample and the definition of every series, 1,000 to a message, before
ingest starts: its first batch, as the settings bound it, brings all of them. Limits are off. Prints
the batches, the greatest memory (PSS) of the JVM, the driver's Python and the workers, and what a
second start takes. Fails unless every series is registered and every sample stored, in one batch.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaAdminClient

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from firehose import PARTITIONS, Firehose, series_of

from tests.plans import ingest_plan, open_registry
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker
from varve.model.clock import SystemClock
from varve.spark.ingest import IngestQuery
from varve.spark.session import local_conf, session
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

TOPIC = "new-series"
LOOK_S = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=3_000_000)
    parser.add_argument("--metrics", type=int, default=50)
    parser.add_argument("--heap-mb", type=int, default=1_024, help="of the JVM, as the settings'")
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="new-series-", dir=args.scratch))
    try:
        with Broker(folder / "kafka", heap_mb=512) as broker:
            return run(args, broker, folder)
    finally:
        shutil.rmtree(folder)


def run(args: argparse.Namespace, broker: Broker, folder: Path) -> int:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(TOPIC, PARTITIONS)])
    admin.close()
    send(args, broker.bootstrap_servers)
    store = Store(str(folder / "tables"))
    create_tables(store, ("samples", "series", "quarantine"))
    batches: list[Any] = []
    plan = ingest_plan(
        store,
        topics=(TOPIC,),
        cluster=Cluster(broker.bootstrap_servers),
        available_now=True,
        on_batch=batches.append,
    )
    spark = session("new-series", local_conf("local[2]", args.heap_mb, folder / "spark"))
    spark.sparkContext.setLogLevel("ERROR")
    memory = Memory(broker)
    begun = time.monotonic()
    query = IngestQuery(spark, plan)
    while not query.done:
        query.raise_failure()
        time.sleep(0.05)
    query.raise_failure()
    query.stop()
    print(f"all ingested after {time.monotonic() - begun:.1f} s, the start included")
    for batch in batches:
        told = ("messages", "in", "stored", "rejected", "series", "seconds", "driver_cpu_s")
        print("batch: " + ", ".join(f"{name} {batch[name]}" for name in told))
    memory.end()
    for name, peak in memory.peaks.items():
        print(f"at most {peak / 2**20:7,.0f} MiB PSS: {name}")
    spark.stop()
    begun = time.monotonic()
    registered = len(open_registry(store).index)
    print(f"a registry of {registered:,} series opens in {time.monotonic() - begun:.1f} s")
    rows = sum(file.rows for file in Table(store, "samples").live_files().values())
    good = registered == rows == args.series and len(batches) == 1
    print("GOOD" if good else f"WRONG: {registered:,} series and {rows:,} samples")
    return 0 if good else 1


def send(args: argparse.Namespace, servers: str) -> None:
    """All series, by turns of the metrics."""
    begun = time.monotonic()
    each = 100_000
    for number, start in enumerate(range(0, args.series, each)):
        count = min(each, args.series - start)
        hose = Firehose(servers, TOPIC, series_of(args.metrics, count, f"new_{number}"))
        now_ms = SystemClock().now_ms()
        hose.run(10**9, count / 10**9, lambda now_ms=now_ms: now_ms, lambda: None)
        hose.close()
    print(f"{args.series:,} series sent in {time.monotonic() - begun:.0f} s", flush=True)


class Memory:
    """Greatest PSS of the driver's Python, its JVM and the workers, looked at all the time."""

    def __init__(self, broker: Broker) -> None:
        me = psutil.Process()
        self._broker_pid = next(p.pid for p in me.children() if p.name() == "java")
        self.peaks = {"driver's Python": 0, "JVM": 0, "all workers": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(LOOK_S):
            found = dict.fromkeys(self.peaks, 0)
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.pid == self._broker_pid:
                        continue
                    is_java = process.name() == "java"
                    kind = "JVM" if is_java else "all workers"
                    name = "driver's Python" if process.pid == me.pid else kind
                    found[name] += process.memory_full_info().pss
            self.peaks = {name: max(peak, found[name]) for name, peak in self.peaks.items()}


if __name__ == "__main__":
    sys.exit(main())
