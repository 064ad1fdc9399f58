"""A home, its topics, and the process that ingests and rolls up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient

from varve.client.messages import Sample
from varve.client.producer import Producer
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator
from varve.model.window import DAY_MS, TIERS, Window, floor_to
from varve.rollups.completeness import CompletenessReader
from varve.rollups.verify import Report, verify
from varve.storage.bounds import Bounds
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

ROOT = Path(__file__).parents[3]
INGEST_QUERIES = ("bulk", "critical")


class Deployment:
    """settings: of VARVE_*, without the prefix."""

    def __init__(
        self, broker: str, home: Path, *, deadline_s: float = 300, **settings: str
    ) -> None:
        self.home, self.deadline_s = home, deadline_s
        self.store = Store(str(home / "tables"))
        create_tables(self.store)
        self.topic = topic = f"bulk-{uuid.uuid4().hex[:8]}"
        admin = KafkaAdminClient(bootstrap_servers=broker)
        names = {"RAW": topic, "CRITICAL": f"{topic}-critical", "SERIES": f"{topic}-series"}
        ensure_topics(admin, [TopicPlan(name, 2) for name in names.values()])
        admin.close()
        given = {
            "INGEST__TRIGGER_S": "0.5",
            "INGEST__COMPLETE_EVERY_S": "0.5",
            "ROLLUP__TRIGGER_S": "0.5",
            "ROLLUP__GRACE_S": "1",
            "ROLLUP__REPAIR_EVERY_S": "1",
            **{f"KAFKA__TOPICS__{kind}": name for kind, name in names.items()},
            **settings,
        }
        self.grace_ms = int(float(given["ROLLUP__GRACE_S"]) * 1000)
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "pipelines"), str(ROOT)]),
            "VARVE_HOME": str(home),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker,
            **{f"VARVE_{name}": value for name, value in given.items()},
        }
        self.producer = Producer(broker, topic)
        self.log = home / "driver.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, point: str = "none", number: int = 0, **settings: str) -> None:
        """settings: go before those of the deployment."""
        given = {f"VARVE_{name}": value for name, value in settings.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py")), point, str(number)],
                env=self._environment | given,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, samples: Iterable[Sample]) -> None:
        """Blocks until they are acknowledged."""
        assert self.producer.put(samples, wait_s=self.deadline_s) == 0
        assert self.producer.flush(self.deadline_s)

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL to Python and the JVM alike."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def await_(self, condition: Callable[[], bool], *, dies: bool = False) -> None:
        """Until it is true. dies: the process may end."""
        deadline = time.monotonic() + self.deadline_s
        while not condition():
            tail = self.log.read_text()[-5_000:] if self.log.exists() else ""
            assert dies or not self.died(), tail
            assert time.monotonic() < deadline, f"{self.states()}\n{tail}"
            time.sleep(0.2)

    def states(self) -> list[Any]:
        try:
            return list(CompletenessReader(self.store).refresh())
        except NeedsOperator:
            return []

    def complete(self, until_ms: int) -> bool:
        """All tiers as far as they can be, nothing pending."""
        states = self.states()
        if not states or states[0].frontier_ms is None:
            return False
        first = min(f.minimum["ts"] for f in snapshot(self.store, "samples").files)
        for state in states:
            width = state.tier.width_ms
            # A tier whose first window is still open has no frontier.
            start = floor_to(first - 1, width)
            reached = start if state.frontier_ms is None else state.frontier_ms
            if state.pending or reached < max(floor_to(until_ms, width), start):
                return False
        return True

    def rows(self, table: str) -> list[dict[str, Any]]:
        return snapshot(self.store, table).scan(Bounds()).to_pylist()

    def verify(self, now_ms: int) -> Report:
        files = snapshot(self.store, "samples").files
        first = min(f.minimum["ts"] for f in files)
        return verify(self.store, Window(first - DAY_MS, now_ms + DAY_MS), TIERS)

    def reach(self) -> list[int]:
        """Of each tier the frontier that input as stored lets it have, however late it gets."""
        positions = CompletenessReader(self.store).positions
        complete = [at for name, at in positions.items() if name.startswith("complete:")]
        assert len(complete) == len(INGEST_QUERIES), positions
        return [floor_to(min(complete) - self.grace_ms, tier.width_ms) for tier in TIERS]

    def waits_ms(self) -> int:
        """For how long the oldest late samples that are stored have waited for their repair."""
        (first, *_), newest = self.states(), Table(self.store, "samples")
        if not first.pending or first.frontier_ms is None:
            return 0
        for entry in entries(self.store, "samples", first.repaired_to or -1, newest.version):
            if any(f.minimum["ts"] <= first.pending[-1].end_ms for f in entry.adds):
                return SystemClock().now_ms() - entry.timestamp_ms
        return 0

    def accounting(self) -> list[dict[str, Any]]:
        """Of the commits of the rollups."""
        return self._lines("rollups.jsonl")

    def batches(self) -> list[dict[str, Any]]:
        """Accounting of the batches of ingest."""
        return self._lines("batches.jsonl")

    def looks(self) -> int:
        """How often all tiers have been looked at."""
        path = self.home / "looks.txt"
        seen = path.read_text().splitlines() if path.exists() else []
        return min(seen.count(tier.name) for tier in TIERS)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.home / name
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def close(self) -> None:
        self.kill()
        self.producer.close()
