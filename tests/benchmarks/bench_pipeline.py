"""Kafka to samples to all four tiers: ingest and rollups side by side in one Spark JVM.

    python tests/benchmarks/bench_pipeline.py --data DIR [--runs 3]

DIR holds the dataset of 10,000 series (dataset.py --out DIR --end now). It is sent to a broker of
its own once, all timestamps two days back; then every run stores all of it into new tables and
closes every window of it, the day's too. JVM, Python workers and kernels are warm; the clock runs
from the beginning of the first batch to the commit of the last row of 1d. CPU is that of all
processes but the broker's, which is shown apart.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_ingest import (
    DAY_MS,
    Bench,
    Mark,
    PeakMemory,
    Timed,
    arguments,
    measure,
    say,
)
from tests.plans import ingest_plan
from varve.kafka.client_options import Cluster
from varve.model.window import TIERS
from varve.spark.rollup import RollupPlan, RollupQuery
from varve.storage import positions
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

BACK_MS = 2 * DAY_MS


def main() -> None:
    measure(Pipeline, "bench-pipeline", arguments(__doc__, runs=3))


class Pipeline(Bench):
    last_ms: int
    """Time of the last sample."""

    def load(self, data: Path, form: str, limit: int) -> tuple[int, int]:
        samples = pq.read_table(data / "samples.parquet")
        ts = pc.subtract(samples.column("ts"), BACK_MS)
        back = self.folder / "data"
        back.mkdir()
        column = samples.schema.get_field_index("ts")
        pq.write_table(samples.set_column(column, "ts", ts), back / "samples.parquet")
        shutil.copy(data / "series.parquet", back)
        sent, size = super().load(back, form, limit)
        self.last_ms = pc.max(ts.slice(0, sent)).as_py()
        return sent, size

    def is_closed(self, store: Store) -> bool:
        """Whether every window of every tier is closed: looks at one position only, which costs
        next to nothing, as what it costs is counted.
        """
        top = Table(store, TIERS[-1].table)
        frontier = top.position(positions.frontier(TIERS[-1].name))
        return frontier is not None and frontier >= self.last_ms

    def run(self, name: str, samples: int) -> dict[str, float]:
        store = Store(str(self.folder / f"tables-{name}"))
        create_tables(store)
        marks: list[Mark] = []
        ingest = ingest_plan(
            store,
            topics=(self.topic,),
            cluster=Cluster(self.broker.bootstrap_servers),
            **self.limits,
            old_after_ms=3 * DAY_MS,
            complete_every_s=0.5,
        )
        rollups = RollupPlan(store, ("bulk",), trigger_s=1.0)
        self.memory = PeakMemory(self.broker_process.pid)
        queries = [
            Timed(self.spark, ingest, lambda: marks.append(self.now())),
            RollupQuery(self.spark, rollups),
        ]
        while not self.is_closed(store):
            for query in queries:
                query.raise_failure()
            time.sleep(0.2)
        marks.append(self.now())
        peak = self.memory.stop()
        for query in queries:
            query.stop()
        stored = sum(f.rows for f in snapshot(store, "samples").files)
        assert stored == samples, (stored, samples)
        start, end = marks[0], marks[-1]
        jvm, python = end.jvm_s - start.jvm_s, end.python_s - start.python_s
        figures = {
            "M samples/s": samples / (end.at_s - start.at_s) / 1e6,
            "M samples/CPU s": samples / (jvm + python) / 1e6,
            "JVM CPU s": jvm,
            "Python CPU s": python,
            "broker CPU s": end.broker_s - start.broker_s,
            "peak MiB": peak / 2**20,
        }
        for table in ("samples", *(tier.table for tier in TIERS)):
            files = snapshot(store, table).files
            rows = sum(f.rows for f in files)
            figures[f"B/row {table}"] = sum(f.size for f in files) / rows
            if table == "rollup_1m":
                figures["rows of 1m, M"] = rows / 1e6
        say(f"{name}: " + ", ".join(f"{v:.3f} {k}" for k, v in figures.items()))
        shutil.rmtree(store.root)
        return figures


if __name__ == "__main__":
    main()
