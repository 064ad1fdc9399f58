"""Histograms and exemplars through a real gateway, broker and Spark, each of which is killed."""

from __future__ import annotations

import time

import httpx
import pytest
from kafka import KafkaAdminClient

from tests.integration.gateway.gateway_process import GatewayProcess
from tests.integration.ingest.accounting import Ingesting
from tests.integration.ingest.faults import POINTS
from tests.remote_writing import HEADERS_V2, V2, snappy
from tests.sending import SendingThread
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.record_rows import RECORD_TABLES, arranged
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.table import create_tables

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

SERIES = 5


class RecordSender(SendingThread):
    """Sends request n with SERIES histograms that count n, and an exemplar of each, at time n;
    again until it is taken.
    """

    def __init__(self, url: str, begin_ms: int) -> None:
        self._url = url
        self.begin_ms = begin_ms
        self.sent = 0
        self.acknowledged = 0
        """Requests up to this one."""
        super().__init__()

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stopping.is_set():
                self.sent += 1
                if not self._deliver(client, snappy(self._request(self.sent))):
                    return
                self.acknowledged += 1

    def _request(self, number: int) -> bytes:
        request = V2["Request"]()
        names = ["", "__name__", "latency", "n", *map(str, range(SERIES)), "trace_id", str(number)]
        request.symbols.extend(names)
        for n in range(SERIES):
            one = request.timeseries.add(labels_refs=[1, 2, 3, 4 + n])
            at_ms = self.begin_ms + number
            made = one.histograms.add(
                count_int=number, sum=float(number), schema=3, timestamp=at_ms
            )
            made.positive_spans.add(offset=n, length=1)
            made.positive_deltas.append(number)
            trace = len(names) - 1
            one.exemplars.add(labels_refs=[trace - 1, trace], value=float(number), timestamp=at_ms)
        return request.SerializeToString()

    def _deliver(self, client: httpx.Client, body: bytes) -> bool:
        while not self._stopping.is_set():
            try:
                answer = client.post(f"{self._url}/api/v1/write", content=body, headers=HEADERS_V2)
            except httpx.HTTPError:
                self._stopping.wait(0.02)
                continue
            if answer.status_code == 204:
                return True
            assert answer.status_code == 503, answer.text
            self._stopping.wait(0.02)
        return False


class Recording(Ingesting):
    """The processes, and topics of histograms and exemplars."""

    def __init__(self, broker, home):
        super().__init__(broker, home)
        create_tables(self.store)
        topics = {table: f"{self.topics['bulk']}-{table}" for table in RECORD_TABLES}
        admin = KafkaAdminClient(bootstrap_servers=broker)
        ensure_topics(admin, [TopicPlan(name, 2) for name in topics.values()])
        admin.close()
        self.topics |= topics
        named = {f"VARVE_KAFKA__TOPICS__{t.upper()}": name for t, name in topics.items()}
        self.environment |= named
        self.gateway = GatewayProcess(home / "gateway", broker, ack_s="1")
        self.gateway.environment |= named | {"VARVE_KAFKA__TOPICS__RAW": self.topics["bulk"]}
        self.gateway.start()
        self.sender = RecordSender(self.gateway.url, int(time.time() * 1000) - 600_000)

    def more(self, requests):
        goal = self.sender.acknowledged + requests
        deadline = time.monotonic() + self.deadline_s
        while self.sender.acknowledged < goal:
            assert time.monotonic() < deadline, self.gateway.log[-3000:]
            time.sleep(0.02)

    def rows(self, table="histograms"):
        return snapshot(self.store, table).scan(Bounds())

    def assert_exact(self):
        """Every record that was acknowledged is stored once and as it was sent, and none else."""
        acknowledged, begin_ms = self.sender.acknowledged, self.sender.begin_ms
        places = {
            row["series_id"]: int(dict(row["tags"])["n"])
            for row in snapshot(self.store, "series").scan(Bounds()).to_pylist()
        }
        assert sorted(places.values()) == list(range(SERIES))
        for table in RECORD_TABLES:
            found = set()
            for row in arranged(table, self.rows(table)).to_pylist():
                number = row["ts"] - begin_ms
                found.add((places[row["series_id"]], number))
                if table == "exemplars":
                    assert (row["value"], row["labels"]) == (number, [("trace_id", str(number))])
                    continue
                assert (row["count"], row["sum"], row["schema"]) == (number, number, 3)
                place = places[row["series_id"]]
                assert row["positive"] == {"offsets": [place], "lengths": [1], "counts": [number]}
            assert found >= {(n, k) for n in range(SERIES) for k in range(1, acknowledged + 1)}
            assert max(k for _, k in found) <= self.sender.sent
        assert snapshot(self.store, "quarantine").scan(Bounds()).num_rows == 0

    def close(self):
        self.sender.stop()
        if self.gateway.is_ready():
            self.gateway.kill()
        super().close()


@pytest.fixture
def recording(kafka_broker, tmp_path):
    running = Recording(kafka_broker.bootstrap_servers, tmp_path / "a home")
    yield running
    running.close()


def await_rows(recording, more):
    goal = recording.rows().num_rows + more
    deadline = time.monotonic() + recording.deadline_s
    while recording.rows().num_rows < goal:
        assert not recording.died(), recording.last_words()
        assert time.monotonic() < deadline, recording.last_words()
        time.sleep(0.1)


def settle(recording):
    recording.sender.stop()
    assert recording.gateway.stop() == 0
    recording.await_all()
    recording.assert_exact()


@pytest.mark.slow
def test_killed_gateways_and_queries_lose_no_record_and_double_none(recording):
    recording.start()
    await_rows(recording, 100)
    recording.kill()
    recording.gateway.kill()
    recording.gateway.start()
    recording.more(20)
    recording.start()
    await_rows(recording, 100)

    settle(recording)
    assert recording.terminate() == 0


@pytest.mark.slow
@pytest.mark.parametrize("point", [p for p in POINTS if p != "between the commits"])
def test_a_query_killed_at_any_point_of_a_batch_stores_each_record_once(recording, point):
    for number in (1, 3):
        recording.more(10)
        recording.start(point, number)
        assert recording.await_end() < 0, recording.last_words()

    recording.start()
    recording.more(10)
    settle(recording)
