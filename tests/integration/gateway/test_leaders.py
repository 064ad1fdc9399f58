"""Gateways, and processes of one, agree through Kafka which replica of a pair leads."""

import asyncio
import contextlib
import re
import time
import uuid

import httpx
import pytest
from kafka import KafkaAdminClient

from tests.integration.gateway.gateway_process import GatewayProcess
from tests.remote_writing import HEADERS_V2, snappy, write_request_v2
from varve.gateway.replicas import Replicas
from varve.gateway.topic_producer import TopicProducer
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.services.leader_log import LeaderLog
from varve.telemetry.several import LABEL

pytestmark = pytest.mark.kafka

FAILOVER_MS = 4_000
DEADLINE_S = 60


class Gateway:
    """Sees one replica, until it is told otherwise."""

    def __init__(self, servers, topic, replica):
        self.replicas = Replicas(FAILOVER_MS)
        self.replica = replica
        producer = TopicProducer(servers, topic, {}, compression="none", delivery_s=30.0)
        options = {"bootstrap_servers": servers}
        self.log = LeaderLog(self.replicas, producer, options, FAILOVER_MS, _now_ms)

    def see(self):
        """Whether the samples of its replica are taken."""
        if self.replica is None:
            return False
        labels = {"cluster": "eu", "__replica__": self.replica}
        _, number = self.replicas.told_apart(labels)
        self.replicas.begin(_now_ms())
        taken = bool(self.replicas.accepted[number])
        self.replicas.seen[number] += 1
        self.replicas.note(_now_ms())
        return taken

    @property
    def leader(self):
        return self.replicas.leaders().get("eu") if self.replicas.is_agreed else None


def _now_ms():
    return int(time.time() * 1000)


async def until(condition, gateways):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            for gateway in gateways:
                gateway.see()
            await asyncio.sleep(0.05)


async def story(servers, topic):
    one, other = Gateway(servers, topic, "a"), Gateway(servers, topic, "b")
    running = [asyncio.create_task(g.log.run()) for g in (one, other)]
    try:
        await until(lambda: one.leader and one.leader == other.leader, (one, other))
        leader = one.leader
        assert [one.see(), other.see()] == [leader == "a", leader == "b"]

        # Its sender is gone: the other replica leads, everywhere, after the silence.
        gone, left = (one, other) if leader == "a" else (other, one)
        gone.replica = None
        begun = time.monotonic()
        await until(lambda: one.leader == other.leader == left.replica, (one, other))
        assert time.monotonic() - begun > FAILOVER_MS / 1000 * 0.5
        assert left.see()

        # A gateway that joins learns it from the log, though it sees the other one.
        late = Gateway(servers, topic, leader)
        running.append(asyncio.create_task(late.log.run()))
        await until(lambda: late.leader == left.replica, (one, other, late))
        assert not late.see()
    finally:
        for task in running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_gateways_that_see_different_replicas_take_the_same_one(kafka_broker):
    topic = f"leaders-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(topic, 1)])
    admin.close()

    asyncio.run(story(kafka_broker.bootstrap_servers, topic))


class Pair:
    """Two replicas that send to the processes of one gateway, each request over a connection of its
    own.
    """

    def __init__(self, url):
        self.url = url
        self.ts = _now_ms()

    def written(self, replica, requests=8):
        """What the answers say was taken of requests of one sample each."""
        found = set()
        for _ in range(requests):
            self.ts += 1
            labels = {"__name__": "up", "cluster": "eu", "__replica__": replica}
            body = snappy(write_request_v2([(labels, [(self.ts, 1.0)])]))
            found.add(self._send(body))
        return found

    def _send(self, body):
        """Sends it again while a process is not ready, as a Prometheus does."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = httpx.post(f"{self.url}/api/v1/write", content=body, headers=HEADERS_V2)
            if answer.status_code == 204:
                return int(answer.headers["X-Prometheus-Remote-Write-Samples-Written"])
            assert answer.status_code == 503, answer.text
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)


def test_processes_of_one_gateway_take_the_same_replica(kafka_broker, tmp_path):
    servers = kafka_broker.bootstrap_servers
    topics = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in ("raw", "leaders")}
    admin = KafkaAdminClient(bootstrap_servers=servers)
    ensure_topics(admin, [TopicPlan(topics["raw"], 2), TopicPlan(topics["leaders"], 1)])
    admin.close()
    gateway = GatewayProcess(
        tmp_path, servers, processes="2", replica_failover_s=str(FAILOVER_MS // 1000)
    )
    for name, topic in topics.items():
        gateway.environment[f"VARVE_KAFKA__TOPICS__{name.upper()}"] = topic
    gateway.start()
    pair = Pair(gateway.url)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while (both := [pair.written("a"), pair.written("b")]) not in ([{1}, {0}], [{0}, {1}]):
            assert time.monotonic() < deadline, gateway.log[-2000:]
        said = httpx.get(f"{gateway.url}/metrics").text
        assert {
            process
            for process, value in re.findall(
                rf'varve_gateway_received_samples_total{{{LABEL}="(\d)".*}} (\S+)', said
            )
            if float(value)
        } == {"0", "1"}

        # Its sender is gone: all processes take the other replica, after the silence.
        left, begun = "ab"[both[0] == {1}], time.monotonic()
        while pair.written(left) != {1}:
            assert time.monotonic() - begun < DEADLINE_S, gateway.log[-2000:]
        assert time.monotonic() - begun > FAILOVER_MS / 1000 * 0.5
    finally:
        assert gateway.stop() == 0
