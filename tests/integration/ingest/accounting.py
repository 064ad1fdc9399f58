"""Runs driver.py against a broker and counts: every sample sent is stored once or quarantined."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer

from varve.model.clock import SystemClock
from varve.services.topics import TopicPlan, ensure_topics
from varve.storage.snapshot import Bounds, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

ROOT = Path(__file__).parents[3]
TABLES = ("samples", "series", "quarantine")


class Ingesting:
    """A home, two topics, and the process that reads them into tables."""

    def __init__(
        self, broker: str, home: Path, *, deadline_s: float = 240, samples_per_message: int = 10
    ) -> None:
        self.home, self.deadline_s = home, deadline_s
        self.samples_per_message = samples_per_message
        self.store = Store(str(home / "tables"))
        create_tables(self.store, TABLES)
        self.topic = f"bulk-{uuid.uuid4().hex[:8]}"
        critical = f"{self.topic}-critical"
        admin = KafkaAdminClient(bootstrap_servers=broker)
        ensure_topics(admin, [TopicPlan(name, 2) for name in self._topics(critical)])
        admin.close()
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "pipelines"), str(ROOT)]),
            "VARVE_HOME": str(home),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker,
            "VARVE_KAFKA__TOPICS__RAW": self.topic,
            "VARVE_KAFKA__TOPICS__CRITICAL": critical,
            "VARVE_KAFKA__TOPICS__SERIES": f"{self.topic}-series",
            "VARVE_INGEST__TRIGGER_S": "0.2",
            "VARVE_INGEST__COMPLETE_EVERY_S": "0.5",
        }
        self.producer = KafkaProducer(bootstrap_servers=broker)
        self.started_ms = SystemClock().now_ms()
        self.sent = 0
        self.bad = 0
        self.log = home / "driver.log"
        self.process: subprocess.Popen[bytes] | None = None

    def _topics(self, critical: str) -> list[str]:
        return [self.topic, critical, f"{self.topic}-series"]

    def start(self, point: str = "none", number: int = 0) -> None:
        self.process = self.spawn(point, number)

    def spawn(self, point: str = "none", number: int = 0) -> subprocess.Popen[bytes]:
        """A driver that is not followed further: a rival of the one that `start` began."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py")), point, str(number)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, messages: int, *, bad: bool = True) -> None:
        """Every seventh message is garbage if `bad`."""
        for n in range(messages):
            partition = n % 2
            if bad and n % 7 == 3:
                self.producer.send(self.topic, b"garbage %d" % self.bad, partition=partition)
                self.bad += 1
                continue
            samples = [
                {
                    "metric": "produced",
                    "value": float(seq),
                    "timestamp": self.started_ms + seq // 10,
                    "tags": {
                        "source": f"producer-{partition}",
                        "lane": f"{seq % 10}-{seq // 1000}",
                    },
                }
                for seq in range(self.sent, self.sent + self.samples_per_message)
            ]
            self.producer.send(self.topic, json.dumps(samples).encode(), partition=partition)
            self.sent += self.samples_per_message
        self.producer.flush()

    def send_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.deadline_s
        while not condition():
            assert not self.died(), self.log.read_text()[-5_000:]
            self.send(7)
            self._require(deadline)
            time.sleep(0.02)

    def send_until_killed(self) -> None:
        """Goes on sending until the process has killed itself."""
        deadline = time.monotonic() + self.deadline_s
        while not self.died():
            self.send(7)
            self._require(deadline)
            time.sleep(0.02)
        assert self.await_end() == -signal.SIGKILL, self.log.read_text()[-5_000:]

    def rows(self) -> int:
        return sum(f.rows for f in Table(self.store, "samples").live_files().values())

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL to Python and the JVM alike."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.await_end()

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.await_end()

    def await_end(self) -> int:
        if self.process is None:
            return 0
        return self.process.wait(self.deadline_s)

    def await_all(self) -> None:
        """Blocks until all that was sent is in the tables."""
        deadline = time.monotonic() + self.deadline_s
        while self.rows() < self.sent or len(self.quarantined()) < self.bad:
            assert not self.died(), self.log.read_text()[-5_000:]
            self._require(deadline)
            time.sleep(0.1)

    def stored(self) -> Counter[int]:
        """How often each number is in the table samples."""
        values = snapshot(self.store, "samples").scan(Bounds(), ["value"]).column("value")
        return Counter(int(v) for v in values.to_pylist())

    def quarantined(self) -> list[bytes]:
        return snapshot(self.store, "quarantine").scan(Bounds(), ["value"])["value"].to_pylist()

    def save(self, folder: Path) -> None:
        shutil.copytree(self.store.root, folder)

    def put_back(self, folder: Path) -> None:
        shutil.rmtree(self.store.root)
        shutil.copytree(folder, self.store.root)

    def assert_exact(self) -> None:
        assert self.stored() == Counter(range(self.sent))
        assert Counter(self.quarantined()) == Counter(b"garbage %d" % n for n in range(self.bad))

    def close(self) -> None:
        self.kill()
        self.producer.close()

    def _require(self, deadline: float) -> None:
        assert time.monotonic() < deadline, self.log.read_text()[-5_000:]
