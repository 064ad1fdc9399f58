"""Several scrape services of one group share the targets, and take over those of one that dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from kafka import KafkaAdminClient

from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import free_port

pytestmark = pytest.mark.kafka

TARGETS = 24
START_S = 240
TAKEN_OVER_S = 15


class Scraped:
    """Targets on one port: when each was read, and by whom."""

    def __init__(self):
        self.reads = []
        reads = self.reads

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                reads.append((time.monotonic(), self.path))
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(b"m 1\n")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self):
        port = self.server.server_port
        jobs = "".join(
            f"- job_name: t{n}\n  metrics_path: /t{n}\n"
            f'  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]\n'
            for n in range(TARGETS)
        )
        return f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"

    def since(self, moment):
        """The targets that were read since then."""
        return {path for at, path in list(self.reads) if at >= moment}


class Instance:
    """`varve serve scrape` as a process, of the group."""

    def __init__(self, home, config, servers, topic):
        self.port = free_port()
        self._log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "varve.cli", "serve", "scrape"),
                *("--home", str(home), f"--config.file={config}"),
            ],
            env=os.environ
            | {
                "VARVE_KAFKA__BOOTSTRAP_SERVERS": servers,
                "VARVE_KAFKA__TOPICS__RAW": topic,
                "VARVE_SCRAPE__PORT": str(self.port),
                "VARVE_SCRAPE__GROUP": topic,
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def targets(self):
        """Those it scrapes, as its API has them; none before it answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/targets?state=active")
            return answer.json()["data"]["activeTargets"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []

    def jobs(self):
        """Those whose target it scrapes."""
        return {target["scrapePool"] for target in self.targets()}


@contextmanager
def instances(tmp_path, count, config, servers, topic):
    started = []
    try:
        for number in range(count):
            home = tmp_path / str(number)
            home.mkdir()
            started.append(Instance(home, config, servers, topic))
        yield started
    finally:
        for instance in started:
            instance.process.kill()
            instance.process.wait()


def until(condition, seconds=START_S):
    """Seconds it took; fails if it never became true."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds
        time.sleep(0.05)
    return time.monotonic() - begun


def test_targets_are_shared_and_those_of_one_that_was_killed_are_taken_over(tmp_path, kafka_broker):
    topic = f"raw-{uuid.uuid4().hex[:8]}"
    servers = kafka_broker.bootstrap_servers
    admin = KafkaAdminClient(bootstrap_servers=servers)
    ensure_topics(admin, [TopicPlan(topic, 8)])
    admin.close()
    scraped = Scraped()
    config = tmp_path / "prometheus.yml"
    config.write_text(scraped.config())
    everything = {f"t{n}" for n in range(TARGETS)}
    with instances(tmp_path, 2, config, servers, topic) as (first, second):

        def is_shared():
            one, other = first.jobs(), second.jobs()
            return one and other and not one & other and one | other == everything

        until(is_shared)
        moment = time.monotonic()
        until(lambda: len(scraped.since(moment)) == TARGETS)

        first.process.kill()
        killed = time.monotonic()
        took_s = until(lambda: second.jobs() == everything)
        until(lambda: len(scraped.since(killed)) == TARGETS)

    # 15 s where the machine has time; here it may be three times as slow.
    assert took_s < 3 * TAKEN_OVER_S
