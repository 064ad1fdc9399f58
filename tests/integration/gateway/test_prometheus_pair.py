"""Two real Prometheus write for a minute while Kafka and the gateway are killed: all they have is
answered by a query, equal, and nothing more; so is what they say of metrics.

They speak remote write 1.0, and one of them 2.0 where Prometheus is of a version that can (3).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from kafka import KafkaAdminClient

from tests.integration.gateway.gateway_process import GatewayProcess
from tests.integration.gateway.test_gateway import ingesting
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port
from varve.storage.store import Store
from varve.storage.table import create_tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.spark,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="no prometheus on PATH (Debian: prometheus)"
    ),
]

WRITES_S, AWAY_S, DEADLINE_S = 60, 20, 600
EVERYTHING = '{job!=""}[1h]'
CONFIG = """
global:
  scrape_interval: 1s
  external_labels: {{sender: {name}}}
remote_write:
  - url: http://127.0.0.1:{gateway}/api/v1/write
    queue_config: {{max_backoff: 1s}}
    metadata_config: {{send_interval: 10s}}
    {protocol}
"""
SCRAPES = """
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: [{targets}]}}]
  - job_name: gateway
    static_configs: [{{targets: ["127.0.0.1:{gateway}"]}}]
"""
SENT = "prometheus_remote_storage_queue_highest_sent_timestamp_seconds"
TO_SEND = "prometheus_remote_storage_highest_timestamp_in_seconds"
PENDING = "prometheus_remote_storage_samples_pending"


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(1.0)  # what is asked is everything


def newest_version():
    """The newest version of remote write that this Prometheus can be told to speak."""
    text = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.", text.stdout + text.stderr)
    return 2 if found and int(found[1]) >= 3 else 1


class Prometheus:
    """One that scrapes all of `ports`, its own the first, until it is told to stop."""

    def __init__(self, folder, name, ports, gateway_port, version):
        folder.mkdir()
        self.url = f"http://127.0.0.1:{ports[0]}"
        protocol = "protobuf_message: io.prometheus.write.v2.Request" if version == 2 else ""
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        values = {"name": name, "targets": targets, "gateway": gateway_port, "protocol": protocol}
        self._config = folder / "prometheus.yml"
        self._writes_alone = CONFIG.format(**values)
        self._config.write_text(self._writes_alone + SCRAPES.format(**values))
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{ports[0]}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def scrape_no_more(self):
        """What it has by then is all that it will have."""
        self._config.write_text(self._writes_alone)
        self._process.send_signal(signal.SIGHUP)

    def has_sent_all(self):
        """Whether it scrapes no more, and what it has is acknowledged."""
        if _client.get(f"{self.url}/api/v1/targets").json()["data"]["activeTargets"]:
            return False
        page = _client.get(f"{self.url}/metrics").text
        sent, to_send, pending = (
            max(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)))
            for name in (SENT, TO_SEND, PENDING)
        )
        return pending == 0 and sent >= to_send

    def metadata(self):
        """Type and help of each metric that it has seen, of one of its targets."""
        answer = _client.get(f"{self.url}/api/v1/metadata").json()["data"]
        return {name: {(one["type"], one["help"]) for one in said} for name, said in answer.items()}

    def stop(self):
        self._process.terminate()
        self._process.wait(60)


@contextmanager
def query_service(home, root):
    port = free_port()
    with (home / "query.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "varve.cli", "serve", "query", "--home", str(home)],
            env=os.environ | {"VARVE_QUERY__PORT": str(port), "VARVE_STORAGE__ROOT": root},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        # Where it compiles first, on a slow machine, that takes minutes.
        until(lambda: is_ready(url), lambda: (home / "query.log").read_text()[-2000:])
        yield url
    finally:
        process.terminate()
        process.wait(60)


def is_ready(url):
    try:
        return _client.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


_client = httpx.Client(timeout=300)


def answered(url, **labels):
    """Labels, time and value, as text, of every sample that a query answers; none if nobody does.
    labels: further ones of each series.
    """
    try:
        answer = _client.get(f"{url}/api/v1/query", params={"query": EVERYTHING})
    except httpx.HTTPError:
        return set()
    if answer.status_code != 200:
        return set()
    return {
        (tuple(sorted((series["metric"] | labels).items())), round(ts * 1000), value)
        for series in answer.json()["data"]["result"]
        for ts, value in series["values"]
    }


def test_all_that_two_prometheus_have_is_answered_and_equal(spark, tmp_path):
    topic = f"pair-{uuid.uuid4().hex[:8]}"
    store = Store(str(tmp_path / "tables"))
    create_tables(store)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "kafka"))
        servers = broker.bootstrap_servers
        admin = KafkaAdminClient(bootstrap_servers=servers)
        ensure_topics(admin, [TopicPlan(topic, 3)])
        admin.close()
        gateway = GatewayProcess(tmp_path / "home", servers, ack_s="1")
        gateway.environment["VARVE_KAFKA__TOPICS__RAW"] = topic
        gateway.start()
        stack.callback(gateway.stop)
        ports = [free_port(), free_port()]
        names = {"a": newest_version(), "b": 1}
        pair = {
            name: Prometheus(tmp_path / name, name, ports[::step], gateway.port, version)
            for (name, version), step in zip(names.items(), (1, -1), strict=True)
        }
        for one in pair.values():
            stack.callback(one.stop)
        until(
            lambda: gateway.metrics().get("varve_gateway_received_samples_total", 0) > 1_000,
            lambda: gateway.log[-2000:],
        )
        begun = time.monotonic()

        def has_written(seconds):
            until(lambda: time.monotonic() - begun >= seconds, str)

        has_written((WRITES_S - AWAY_S) / 2)
        broker.kill()
        has_written(WRITES_S / 2)
        gateway.kill()
        gateway.start()
        has_written((WRITES_S + AWAY_S) / 2)
        said = pair["b"].metadata()
        broker.start()
        has_written(WRITES_S)
        for one in pair.values():
            one.scrape_no_more()
        until(
            lambda: (
                all(one.has_sent_all() for one in pair.values())
                and gateway.metrics()["varve_gateway_spool_bytes"] == 0
            ),
            lambda: gateway.log[-2000:],
        )
        sent = set().union(*(answered(one.url, sender=name) for name, one in pair.items()))
        query = stack.enter_context(ingesting(spark, servers, topic, store))
        url = stack.enter_context(query_service(tmp_path / "home", store.root))
        found = set()

        def all_answered():
            nonlocal found
            query.raise_failure()
            found = answered(url)
            return sent <= found

        until(all_answered, lambda: f"{len(sent - found)} of {len(sent)} are missing")
        known = _client.get(f"{url}/api/v1/metadata").json()["data"]

    assert {dict(labels)["sender"] for labels, _, _ in sent} == {"a", "b"}
    assert len(sent) > 20_000
    assert found == sent
    assert len(said) > 100
    assert [
        name
        for name, of in said.items()
        if not of & {(one["type"], one["help"]) for one in known.get(name, ())}
    ] == []
