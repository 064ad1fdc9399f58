"""Kafka to the table samples, everything on: registry, copies, limits, accounting, commits.

    python tests/benchmarks/bench_ingest.py --data DIR [--format arrow|json|object] [--runs 5]

DIR holds the dataset of 10,000 series (dataset.py --out DIR --end now). It is sent to a broker of
its own once; then every run stores all of it into new tables. JVM, Python workers and kernels are
warm; the clock runs from the beginning of the first batch to the end of the last. CPU is that of
all processes but the broker's, which is shown apart, and without what it costs to look at their
memory, which is their proportional set size (PSS). arrow and json: 1,000 samples a message; object:
one JSON object a message, in batches as the settings bound them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaAdminClient, KafkaProducer

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.plans import ingest_plan
from varve.ingest import arrow_codec
from varve.ingest.batch_size import BatchLimits
from varve.ingest.plan import IngestPlan
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker
from varve.model.identity import SeriesDefinition, define
from varve.spark.ingest import IngestQuery
from varve.spark.session import local_conf, session
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

PARTITIONS = 4
MESSAGE_SAMPLES = 1_000
DAY_MS = 86_400_000


def main() -> None:
    measure(Bench, "bench-ingest", arguments(__doc__, runs=5))


def arguments(doc: str | None, runs: int) -> argparse.Namespace:
    """Of the command line; runs: how many there are unless it says otherwise."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--format", choices=["arrow", "json", "object"], default="arrow")
    parser.add_argument("--samples", type=int, default=0, help="only so many; 0: all")
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument(
        "--batch", type=int, default=0, help="messages a batch; 0: 10,000, of objects as set"
    )
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    return parser.parse_args()


def measure(kind: type[Bench], name: str, args: argparse.Namespace) -> None:
    """Loads the dataset once, then prints every run of a benchmark and the medians."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=args.scratch))
    broker = Broker(folder / "kafka", heap_mb=1024)
    broker.start()
    try:
        bench = kind(broker, folder, args.batch or (0 if args.format == "object" else 10_000))
        sent, size = bench.load(args.data, args.format, args.samples)
        say(f"{sent:,} samples in Kafka as {args.format}, {size / sent:.1f} B each")
        bench.run("warm-up", sent)
        runs = [bench.run(str(n), sent) for n in range(args.runs)]
        for figure in runs[0] if runs else ():
            values = [run[figure] for run in runs]
            say(
                f"{figure:16} median {statistics.median(values):8.3f}"
                f"  ({min(values):.3f} to {max(values):.3f})"
            )
        bench.stop()
    finally:
        broker.stop()
        shutil.rmtree(folder)


class Mark(NamedTuple):
    """A moment, and the CPU seconds used by then."""

    at_s: float
    jvm_s: float
    python_s: float
    broker_s: float


class Bench:
    memory: PeakMemory

    def __init__(self, broker: Broker, folder: Path, batch: int) -> None:
        self.broker, self.folder = broker, folder
        self.limits: dict[str, Any] = {"batch": BatchLimits(batch, 10**8, 2**32)} if batch else {}
        """Of batches, as an option of a plan; none: as the settings have them."""
        self.topic = "bench"
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(self.topic, PARTITIONS)])
        admin.close()
        children = psutil.Process().children()
        self.broker_process = next(p for p in children if p.name() == "java")
        self.spark = session("bench", local_conf("local[2]", 1024, folder / "spark"))
        self.spark.sparkContext.setLogLevel("ERROR")

    def load(self, data: Path, form: str, limit: int) -> tuple[int, int]:
        """Samples and bytes sent."""
        if form == "object":
            return self.load_objects(data, limit)
        producer = KafkaProducer(
            bootstrap_servers=self.broker.bootstrap_servers,
            linger_ms=20,
            batch_size=2**20,
            max_request_size=2**24,
            compression_type=None if form == "arrow" else "zstd",
        )
        definitions = definitions_of(data / "series.parquet")
        encode = as_arrow if form == "arrow" else as_json
        sent = size = 0
        for partition, message in messages(data / "samples.parquet", encode, definitions, limit):
            producer.send(self.topic, message[0], partition=partition)
            sent, size = sent + message[1], size + len(message[0])
        producer.flush()
        producer.close()
        return sent, size

    def load_objects(self, data: Path, limit: int) -> tuple[int, int]:
        """Sends a message for each sample: by Spark, which takes a tenth of the time."""
        definitions = definitions_of(data / "series.parquet")
        folder, size, sent = self.folder / "objects", 0, 0
        folder.mkdir()
        groups = pq.ParquetFile(data / "samples.parquet").iter_batches(batch_size=400_000)
        for number, group in enumerate(groups):
            part = group.slice(0, min(len(group), limit - sent)) if limit else group
            values = pa.array(objects(part, definitions), pa.binary())
            partitions = pa.array(part.column("series_id").to_numpy() % PARTITIONS, pa.int32())
            rows = pa.table({"value": values, "partition": partitions})
            pq.write_table(rows, folder / f"{number:06}.parquet")
            sent, size = sent + len(part), size + sum(map(len, values.to_pylist()))
            if sent == limit:
                break
        frame = self.spark.read.parquet(f"file://{folder}").write.format("kafka")
        options = {"kafka.linger.ms": "20", "kafka.batch.size": str(2**20), "topic": self.topic}
        options["kafka.bootstrap.servers"] = self.broker.bootstrap_servers
        frame.options(**options, **{"kafka.compression.type": "lz4"}).save()
        return sent, size

    def run(self, name: str, samples: int) -> dict[str, float]:
        store = Store(str(self.folder / f"tables-{name}"))
        create_tables(store, ("samples", "series", "quarantine"))
        figures = self.store_all(store, samples, name)
        shutil.rmtree(store.root)
        return figures

    def store_all(self, store: Store, samples: int, name: str) -> dict[str, float]:
        """Stores what is new in the topic, which must be so many samples."""
        before = stored_rows(store)
        marks: list[Mark] = []
        plan = ingest_plan(
            store,
            topics=(self.topic,),
            cluster=Cluster(self.broker.bootstrap_servers),
            **self.limits,
            old_after_ms=DAY_MS,
            available_now=True,
            on_batch=lambda _: marks.append(self.now()),
        )
        self.memory = PeakMemory(self.broker_process.pid)
        query = Timed(self.spark, plan, lambda: marks.append(self.now()))
        while not query.done:
            query.raise_failure()
            time.sleep(0.01)
        query.raise_failure()
        query.stop()
        start, end = marks[0], marks[-1]
        jvm, python = end.jvm_s - start.jvm_s, end.python_s - start.python_s
        files = list(Table(store, "samples").live_files().values())
        stored = sum(f.rows for f in files)
        assert stored == before + samples, (stored, before, samples)
        figures = {
            "M samples/s": samples / (end.at_s - start.at_s) / 1e6,
            "M samples/CPU s": samples / (jvm + python) / 1e6,
            "bytes/sample": sum(f.size for f in files) / stored,
            "JVM CPU s": jvm,
            "Python CPU s": python,
            "broker CPU s": end.broker_s - start.broker_s,
            "peak MiB": self.memory.stop() / 2**20,
        }
        say(f"{name}: " + ", ".join(f"{v:.3f} {k}" for k, v in figures.items()))
        return figures

    def now(self) -> Mark:
        jvm = python = 0.0
        for process in ours_of(self.broker_process.pid):
            # A process that the JVM starts for a moment is counted by the JVM, as its child.
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "java":
                    jvm += cpu_s(process)
                else:
                    python += cpu_s(process)
        python -= self.memory.cpu_s
        return Mark(time.monotonic(), jvm, python, cpu_s(self.broker_process))

    def stop(self) -> None:
        self.spark.stop()


class Timed(IngestQuery):
    def __init__(self, spark: Any, plan: IngestPlan, on_begin: Any) -> None:
        self._on_begin = on_begin
        super().__init__(spark, plan)

    def _store(self, messages: Any, number: int) -> None:
        if self._on_begin is not None:
            self._on_begin()
            self._on_begin = None
        super()._store(messages, number)


class PeakMemory:
    """Greatest PSS of all processes but the broker, bytes, looked at every second.

    cpu_s: what the looking has cost, which is not the product's.
    """

    def __init__(self, broker_pid: int) -> None:
        self._broker_pid = broker_pid
        self._peak = 0
        self.cpu_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopping.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stopping.wait(1.0):
            total = 0
            for process in ours_of(self._broker_pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_full_info().pss
            self._peak = max(self._peak, total)
            self.cpu_s = time.thread_time()


def stored_rows(store: Store) -> int:
    return sum(file.rows for file in Table(store, "samples").live_files().values())


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def ours_of(broker_pid: int) -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *(p for p in me.children(recursive=True) if p.pid != broker_pid)]


def cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:4]))


def definitions_of(path: Path) -> dict[int, SeriesDefinition]:
    rows = pq.read_table(path).to_pylist()
    return {
        r["series_id"]: define(r["metric"], dict(r["tags"]), metric_type=r["type"]) for r in rows
    }


def messages(
    path: Path, encode: Any, definitions: dict[int, SeriesDefinition], limit: int
) -> Iterator[tuple[int, tuple[bytes, int]]]:
    """Partition, and message with its number of samples, in the order of arrival."""
    told: set[int] = set()
    seen = 0
    for group in pq.ParquetFile(path).iter_batches(batch_size=400_000):
        if limit and seen >= limit:
            return
        batch = group.slice(0, min(len(group), limit - seen)) if limit else group
        seen += len(batch)
        ids = batch.column("series_id").to_numpy()
        for partition in range(PARTITIONS):
            part = batch.take(pa.array(np.flatnonzero(ids % PARTITIONS == partition)))
            for start in range(0, len(part), MESSAGE_SAMPLES):
                piece = part.slice(start, MESSAGE_SAMPLES)
                yield partition, (encode(piece, definitions, told), len(piece))


def as_arrow(
    piece: pa.RecordBatch, definitions: dict[int, SeriesDefinition], told: set[int]
) -> bytes:
    ids = piece.column("series_id").to_pylist()
    new = [definitions[i] for i in dict.fromkeys(ids) if i not in told]
    told.update(ids)
    checks = pa.array([definitions[i].check for i in ids], pa.int32())
    columns = [piece.column(0), checks, piece.column(1), piece.column(2)]
    return arrow_codec.write(
        pa.Table.from_arrays(columns, schema=arrow_codec.wire_schema("samples")), new
    )


def as_json(
    piece: pa.RecordBatch, definitions: dict[int, SeriesDefinition], told: set[int]
) -> bytes:
    return b"[" + b",".join(objects(piece, definitions)) + b"]"


def objects(piece: pa.RecordBatch, definitions: dict[int, SeriesDefinition]) -> list[bytes]:
    heads = {
        i: json.dumps({"metric": d.metric, "tags": dict(d.tags)}, separators=(",", ":"))[:-1]
        for i in set(piece.column("series_id").to_pylist())
        for d in [definitions[i]]
    }
    rows = zip(*(piece.column(n).to_pylist() for n in range(3)), strict=True)
    return [f'{heads[i]},"timestamp":{ts},"value":{value!r}}}'.encode() for i, ts, value in rows]


if __name__ == "__main__":
    main()
