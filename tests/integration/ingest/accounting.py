"""Runs driver.py against a broker and counts: every sample sent is stored once or quarantined."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from kafka import KafkaAdminClient

from tests.integration.ingest.producing import LIMITED, METRIC, Sources
from varve.kafka.client_options import Cluster
from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import Partition
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.clock import SystemClock
from varve.model.record_rows import table_of
from varve.query.sql import connect
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

ROOT = Path(__file__).parents[3]
TABLES = ("samples", "series", "quarantine")
QUERIES = ("bulk", "critical")


@dataclass(frozen=True)
class Proof:
    """attempted = stored + the sum of quarantined, each sample once. copies: rows of the table
    samples beyond the first of a sample.
    """

    attempted: int
    stored: int
    copies: int
    quarantined: dict[str, int]


class Ingesting:
    """A home, topics, and the process that reads them into tables."""

    def __init__(
        self, broker: str, home: Path, *, deadline_s: float = 240, samples_per_message: int = 10
    ) -> None:
        self.home, self.deadline_s = home, deadline_s
        self.samples_per_message = samples_per_message
        self.store = Store(str(home / "tables"))
        create_tables(self.store, TABLES)
        self.broker = broker
        bulk = f"bulk-{uuid.uuid4().hex[:8]}"
        critical = f"{bulk}-critical"
        admin = KafkaAdminClient(bootstrap_servers=broker)
        ensure_topics(admin, [TopicPlan(n, 2) for n in (bulk, critical, f"{bulk}-series")])
        admin.close()
        self.topics = {"bulk": bulk, "critical": critical}
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "pipelines"), str(ROOT)]),
            "VARVE_HOME": str(home),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker,
            "VARVE_KAFKA__TOPICS__RAW": bulk,
            "VARVE_KAFKA__TOPICS__CRITICAL": critical,
            "VARVE_KAFKA__TOPICS__SERIES": f"{bulk}-series",
            "VARVE_INGEST__TRIGGER_S": "0.2",
            "VARVE_INGEST__COMPLETE_EVERY_S": "0.5",
        }
        self.sources = Sources(broker, bulk, critical, SystemClock().now_ms())
        self.log = home / "driver.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[tuple[str, int], subprocess.Popen[bytes]] = {}

    @property
    def sent(self) -> int:
        return self.sources.sent

    def limit(self, series: int) -> None:
        """How many series the limited metric may have from the next batch on."""
        text = f"[metric.{LIMITED}]\nseries = {series}\n"
        fresh = self.home / "limits.toml.new"
        fresh.write_text(text)
        fresh.replace(self.home / "limits.toml")

    def prepare(self, point: str = "none", number: int = 0) -> None:
        """Starts the JVM of a process that `start` of the same point will set to work."""
        self._waiting[point, number] = self._launch(point, number)

    def start(self, point: str = "none", number: int = 0) -> None:
        self.process = self.spawn(point, number)

    def spawn(self, point: str = "none", number: int = 0) -> subprocess.Popen[bytes]:
        """A driver that is not followed further: a rival of the one that `start` began."""
        process = self._waiting.pop((point, number), None) or self._launch(point, number)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        return process

    def _launch(self, point: str, number: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py")), point, str(number)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, messages: int) -> None:
        self.sources.send(messages, self.samples_per_message)

    def send_until(self, condition: Callable[[], bool], pause_s: float = 0.02) -> None:
        deadline = time.monotonic() + self.deadline_s
        while not condition():
            assert not self.died(), self.last_words()
            self.send(7)
            self._require(deadline)
            time.sleep(pause_s)

    def send_until_killed(self, pause_s: float = 0.02) -> None:
        """Goes on sending until the process has killed itself."""
        deadline = time.monotonic() + self.deadline_s
        while not self.died():
            self.send(7)
            self._require(deadline)
            time.sleep(pause_s)
        assert self.await_end() == -signal.SIGKILL, self.last_words()

    def rows(self) -> int:
        return sum(f.rows for f in Table(self.store, "samples").live_files().values())

    def rejects_owed(self) -> list[str]:
        """Queries whose last rejects are in the commit of samples but not in quarantine yet."""
        samples, quarantine = Table(self.store, "samples"), Table(self.store, "quarantine")
        return [
            q
            for q in QUERIES
            if samples.position(positions.rejects(q)) != quarantine.position(positions.rejects(q))
        ]

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL to Python and the JVM alike. Spark's workers, a group of their own, end when they
        notice, and may write a file until then.
        """
        workers: list[psutil.Process] = []
        if self.process is not None and self.process.poll() is None:
            workers = psutil.Process(self.process.pid).children(recursive=True)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.await_end()
        _, alive = psutil.wait_procs(workers, self.deadline_s)
        assert not alive

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
        """Blocks until all that was sent is in the tables, or their quarantine."""
        ends = self._ends()
        deadline = time.monotonic() + self.deadline_s
        while not self._reached(ends) or self.rejects_owed():
            assert not self.died(), self.last_words()
            self._require(deadline)
            time.sleep(0.1)

    def save(self, folder: Path) -> None:
        """The tables as they are, and nothing that is kept beside them."""
        for table in TABLES:
            shutil.copytree(Path(self.store.root) / table, folder / table)

    def put_back(self, folder: Path) -> None:
        for table in TABLES:
            shutil.rmtree(Path(self.store.root) / table)
            shutil.copytree(folder / table, Path(self.store.root) / table)

    def assert_exact(self) -> Proof:
        """Reads all tables: every sample and every piece of garbage is in one of them once."""
        quarantine = snapshot(self.store, "quarantine").scan(Bounds()).to_pylist()
        found = self._stored(METRIC, "tags['source']")
        assert found == {
            (source.name, n): 1 for source in self.sources.all for n in range(source.sent)
        }
        garbage = Counter(r["value"] for r in quarantine if r["reason"] == "malformed")
        assert garbage == Counter(b"garbage %d" % n for n in range(self.sources.garbage))
        kept = self._assert_limited([r for r in quarantine if r["reason"] == "cardinality_limit"])
        reasons: Counter[str] = Counter()
        for row in quarantine:
            reasons[row["reason"]] += row["samples"]
        attempted = self.sent + self.sources.garbage + len(self.sources.limited)
        assert attempted == len(found) + kept + reasons.total()
        assert self._accounted() == (attempted, len(found) + kept)
        copies = self.rows() - len(found) - kept
        assert copies == 0
        return Proof(attempted, len(found) + kept, copies, dict(reasons))

    def _assert_limited(self, rows: list[dict[str, object]]) -> int:
        """Samples beyond a limit are counted, with their offsets, not kept: those that are not
        stored are as many as quarantine says, in ranges it names. Returns how many are stored.
        """
        stored = self._stored(LIMITED, "''")
        assert set(stored.values()) <= {1}
        missing = set(range(len(self.sources.limited))) - {n for _, n in stored}
        assert len(stored) + len(missing) == len(self.sources.limited)
        assert len(missing) == sum(int(str(r["samples"])) for r in rows)
        ranges = [
            (r["topic"], r["partition"], *map(int, found.groups()))
            for r in rows
            if (found := re.search(r"offsets (\d+) to (\d+)", str(r["detail"])))
        ]
        for number in missing:
            sent = self.sources.limited[number].get()
            assert any(
                (topic, partition) == (sent.topic, sent.partition) and first <= sent.offset <= last
                for topic, partition, first, last in ranges
            )
        return len(stored)

    def _stored(self, metric: str, source: str) -> dict[tuple[str, int], int]:
        """How often each (source, number) is in the view raw."""
        query = f"SELECT {source}, value FROM raw WHERE metric = '{metric}'"
        rows = connect(self.store, query).execute(query).fetchall()
        return dict(Counter((name, int(value)) for name, value in rows))

    def _accounted(self) -> tuple[int, int]:
        """Samples that came in and that were stored, by the commits' own accounting."""
        version = Table(self.store, "samples").version
        batches = [e.metadata for e in entries(self.store, "samples", -1, version)]
        batches = [b for b in batches if "in" in b]
        return sum(b["in"] for b in batches), sum(b["stored"] for b in batches)

    def _ends(self) -> dict[str, dict[Partition, int]]:
        ends = {}
        for query, name in self.topics.items():
            topics = TopicOffsets(Cluster(self.broker), [name])
            ends[query] = topics.latest(topics.partitions())
            topics.close()
        return ends

    def _reached(self, ends: dict[str, dict[Partition, int]]) -> bool:
        tables = {query: Table(self.store, table_of(query)) for query in ends}
        return all(
            end in (0, tables[query].position(partition.position(query)))
            for query, of_query in ends.items()
            for partition, end in of_query.items()
        )

    def last_words(self) -> str:
        return self.log.read_text()[-5_000:]

    def close(self) -> None:
        self.kill()
        for process in self._waiting.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(self.deadline_s)
        self.sources.close()

    def _require(self, deadline: float) -> None:
        assert time.monotonic() < deadline, self.last_words()
