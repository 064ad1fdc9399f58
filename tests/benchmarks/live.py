"""A broker and the streams of `varve up`, watched from outside: lag, freshness, memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from kafka import KafkaAdminClient, KafkaProducer

from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local import components
from varve.local.broker import MAX_MESSAGE_BYTES, Broker
from varve.services.status import read_status
from varve.settings import load
from varve.settings.kafka import Kafka
from varve.storage.log import LogEntry
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
BULK, CRITICAL = "raw-metrics", "raw-metrics-critical"


class Live:
    """A home with its own broker. The streams are started and stopped; the broker stays."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.broker = Broker(folder / "kafka", heap_mb=Kafka().heap_mb)
        self.broker.start()
        self.servers = self.broker.bootstrap_servers
        self.broker_process = next(p for p in psutil.Process().children() if p.name() == "java")
        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        names = [BULK, CRITICAL, "metric-series"]
        ensure_topics(admin, [TopicPlan(n, 4, message_bytes=MAX_MESSAGE_BYTES) for n in names])
        admin.close()
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT / "pipelines"),
            "VARVE_HOME": str(self.home),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "VARVE_TELEMETRY__PORT": "0",
        }
        self.settings, _ = load(env=self.environment)
        self.store = Store(self.settings.storage_root())
        create_tables(self.store)
        self.log = self.home / "streams.log"
        self._streams: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Blocks until the queries run."""
        with self.log.open("ab") as log:
            self._streams = subprocess.Popen(
                [sys.executable, "-m", "varve.cli", "serve", "streams"],
                env=self.environment | components.spark_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE_S
        while (record := read_status(self.home).get("streams")) is None or record.state != "ready":
            self.require_alive()
            assert time.monotonic() < deadline, self.log.read_text()[-3_000:]
            time.sleep(0.1)

    def require_alive(self) -> None:
        assert self._streams is not None
        assert self._streams.poll() is None, self.log.read_text()[-5_000:]

    def stop(self) -> None:
        if self._streams is not None:
            self._streams.send_signal(signal.SIGTERM)
            self._streams.wait(DEADLINE_S)
            self._streams = None

    def close(self) -> None:
        self.stop()
        self.broker.stop()

    def processes(self) -> dict[str, list[psutil.Process]]:
        """By kind: jvm, python, broker."""
        found: dict[str, list[psutil.Process]] = {
            "jvm": [],
            "python": [],
            "broker": [self.broker_process],
        }
        if self._streams is not None:
            # Workers come and go between two looks.
            with contextlib.suppress(psutil.NoSuchProcess):
                top = psutil.Process(self._streams.pid)
                for process in [top, *top.children(recursive=True)]:
                    found["jvm" if process.name() == "java" else "python"].append(process)
        return found


@dataclass
class Seen:
    """Commits of samples as they became readable. Times are time.time()."""

    taken: Counter[str] = field(default_factory=Counter)
    """Samples by query, whatever became of them."""
    stored: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    merged: int = 0
    batches: list[tuple[float, str, int]] = field(default_factory=list)
    """Time, query and samples of each."""
    read_to: dict[str, int] = field(default_factory=dict)
    """Next offset by "topic-partition"."""


class Watch:
    """Follows the log of samples, asks for memory, and sends critical samples to see them come."""

    def __init__(self, live: Live, *, probe_every_s: float = 0.25) -> None:
        self.live = live
        self.seen = Seen()
        self.ages: list[tuple[float, float]] = []
        """Of each critical sample: time it was produced, seconds until it was readable."""
        self.lag: list[tuple[float, float]] = []
        """Time and bulk samples sent, less those taken."""
        self.rss: list[tuple[float, dict[str, float]]] = []
        """Time and bytes resident by kind; `pss` is all of them, shared memory counted once."""
        self.sent: int = 0
        """Bulk samples; whoever sends them writes it."""
        self._probe_every_s = probe_every_s
        self._waiting: list[tuple[str, int, float]] = []
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=body, daemon=True)
            for body in (self._follow, self._probe, self._measure)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def await_taken(self, samples: int, deadline_s: float) -> None:
        """Blocks until so many bulk samples are stored or refused."""
        deadline = time.monotonic() + deadline_s
        with self._changed:
            while self.seen.taken["bulk"] < samples:
                self.live.require_alive()
                assert time.monotonic() < deadline, (self.seen.taken, samples)
                self._changed.wait(0.5)

    def ages_between(self, begin: float, end: float) -> list[float]:
        return sorted(age for at, age in self.ages if begin <= at < end)

    def peak(self, kind: str) -> float:
        return max(sizes[kind] for _, sizes in self.rss)

    def peak_together(self) -> float:
        """Bytes resident of all processes at one time: what they share counted in each."""
        return max(sizes["jvm"] + sizes["python"] + sizes["broker"] for _, sizes in self.rss)

    def _follow(self) -> None:
        table = Table(self.live.store, "samples")
        while not self._stopping.wait(0.05):
            fresh = table.refresh() or []
            now = time.time()
            with self._changed:
                for entry in fresh:
                    self._take(entry, now)
                self.lag.append((now, self.sent - self.seen.taken["bulk"]))
                self._changed.notify_all()

    def _take(self, entry: LogEntry, now: float) -> None:
        batch, seen = entry.metadata, self.seen
        if "in" not in batch:
            return
        query = batch["query"]
        seen.taken[query] += batch["in"]
        seen.stored[query] += batch["stored"]
        seen.merged += batch["merged"]
        seen.rejected.update(batch["rejected"])
        seen.batches.append((now, query, batch["in"]))
        seen.read_to.update({name: end for name, (_, end) in batch["offsets"].items()})
        for waiting in list(self._waiting):
            name, offset, produced = waiting
            if seen.read_to.get(name, 0) > offset:
                self._waiting.remove(waiting)
                self.ages.append((produced, now - produced))

    def _probe(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.live.servers)
        while not self._stopping.wait(self._probe_every_s):
            now = time.time()
            sample = {"metric": "heartbeat", "value": 1, "timestamp": int(now * 1000)}
            sending = producer.send(CRITICAL, json.dumps(sample).encode())
            sent = sending.get(timeout=DEADLINE_S)
            with self._changed:
                self._waiting.append((f"{CRITICAL}-{sent.partition}", sent.offset, now))
        producer.close()

    def _measure(self) -> None:
        while not self._stopping.wait(1.0):
            sizes: dict[str, float] = {"pss": 0.0}
            for kind, processes in self.live.processes().items():
                sizes[kind] = 0.0
                for process in processes:
                    try:
                        memory = process.memory_full_info()
                    except psutil.NoSuchProcess:
                        continue
                    sizes[kind] += memory.rss
                    sizes["pss"] += memory.pss
            self.rss.append((time.time(), sizes))


def quantile(values: list[float], q: float) -> float:
    """Nearest rank; NaN of nothing."""
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
