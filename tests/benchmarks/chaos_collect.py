"""Kills the gateway and scraping again and again, while every protocol but remote write sends.

    python tests/benchmarks/chaos_collect.py [--kills 20] [--seed N]

Values are numbered. `varve serve gateway` and `varve serve scrape` are killed (SIGKILL) at these
points in turn: while Kafka takes all, while Kafka is away and messages go to the spools, while the
spools are sent to Kafka. At the end the topic is read. Of OTLP, Influx, JSON and Pushgateway all
that was acknowledged is there, and nothing that was not sent. Of scraping, what was exposed is
there but for what was in flight at a kill. Of StatsD by TCP and UDP nobody is told what was taken:
no line is counted twice, and lost is at most what came within a few flushes of a kill, which is
printed.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import httpx
from kafka import KafkaAdminClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.accounted import columns_in_topic
from tests.benchmarks.bench_ingest import say
from tests.benchmarks.chaos_steps import wait_until, without_kafka
from tests.benchmarks.collect_senders import (
    SENDERS,
    SERIES,
    HttpSender,
    Life,
    ScrapedTarget,
    StatsdSender,
    total_of,
    wrong_counts,
)
from tests.integration.gateway.gateway_process import GatewayProcess
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port
from varve.model.identity import identify

TOPIC = "raw-metrics"
PAUSE_S = 0.02
# A flush every second, on a machine that has more to do.
SLACK_S = 6.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    say(f"seed {args.seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-collect-"))
    try:
        with Broker(folder / "kafka") as broker:
            return 0 if Chaos(broker, folder, random.Random(args.seed)).run(args.kills) else 1
    finally:
        shutil.rmtree(folder)


class Scraping:
    """`varve serve scrape` as a process."""

    def __init__(self, home: Path, config: str, servers: str) -> None:
        home.mkdir()
        (home / "prometheus.yml").write_text(config)
        self._home = home
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": servers,
            "VARVE_SCRAPE__PORT": str(port),
            "VARVE_GATEWAY__ACK_S": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "varve.cli", "serve", "scrape"]
        command += ["--home", str(self._home), f"--config.file={self._home / 'prometheus.yml'}"]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def has_sent_its_spool(self) -> bool:
        """Also False while it starts."""
        try:
            lines = httpx.get(f"{self._url}/metrics").text.splitlines()
        except httpx.HTTPError:
            return False
        held = [line for line in lines if line.startswith("varve_gateway_spool_bytes")]
        return bool(held) and all(float(line.rpartition(" ")[2]) == 0 for line in held)

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)


class Chaos:
    def __init__(self, broker: Broker, folder: Path, rng: random.Random) -> None:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(TOPIC, 3)])
        admin.close()
        self._broker, self._rng = broker, rng
        self._statsd_port = free_port()
        self._gateway = GatewayProcess(
            folder / "gateway",
            broker.bootstrap_servers,
            ack_s="1",
            statsd_port=str(self._statsd_port),
            statsd_flush_s="1",
        )
        self._target = ScrapedTarget()
        self._scraping = Scraping(
            folder / "scrape", self._target.config(), broker.bootstrap_servers
        )
        self._senders: list[HttpSender] = []
        self._lines: list[StatsdSender] = []
        self._lives: list[Life] = []
        """Those of the gateway that have ended."""
        self._born = self._ready = 0.0
        self._points: list[Callable[[], None]] = [
            self._while_kafka_takes_all,
            self._while_it_spools,
            self._while_kafka_takes_all,
            self._while_it_sends_the_spool,
        ]

    def run(self, kills: int) -> bool:
        self._gateway.start()
        self._ready = time.time()
        self._scraping.start()
        self._senders = [of(self._gateway.url, PAUSE_S) for of in SENDERS]
        kinds = (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM))
        self._lines = [
            StatsdSender(self._statsd_port, kind, f"chaos_{name}", PAUSE_S) for name, kind in kinds
        ]
        try:
            self._more()
            for number in range(kills):
                point = self._points[number % len(self._points)]
                begun = time.monotonic()
                point()
                self._more()
                counts = ", ".join(f"{s.name} {len(s.acknowledged):,}" for s in self._senders)
                say(
                    f"kill {number + 1} of {kills} {point.__name__.strip('_').replace('_', ' ')}:"
                    f" {time.monotonic() - begun:.1f} s; acknowledged {counts}"
                )
        finally:
            for sender in (*self._senders, *self._lines):
                sender.stop()
        assert self._gateway.stop() == 0
        self._note_end()
        assert self._scraping.stop() == 0
        self._target.stop()
        self._send_what_is_spooled()
        return self._judge()

    def _send_what_is_spooled(self) -> None:
        self._gateway.start()
        self._scraping.start()
        self._until(lambda: self._gateway.metrics()["varve_gateway_spool_bytes"] == 0)
        self._until(self._scraping.has_sent_its_spool)
        assert self._gateway.stop() == 0
        assert self._scraping.stop() == 0

    def _judge(self) -> bool:
        stored = self._stored()
        wrong: list[str] = []
        for sender in self._senders:
            found = [{value for _, value in stored[sender.metric, n]} for n in range(SERIES)]
            lost = sum(len(sender.acknowledged - values) for values in found)
            more = sum(len(values - sender.sent) for values in found)
            say(
                f"{sender.name}: {len(sender.acknowledged) * SERIES:,} samples acknowledged,"
                f" {sender.refused} requests answered 503: {lost} lost, {more} more than were sent"
            )
            if lost or more:
                wrong.append(sender.name)
        wrong += self._wrong_of_scraping(stored)
        for lines in self._lines:
            totals = sorted(stored[lines.metric, -1])
            problems = wrong_counts(totals, lines.sent, self._lives, SLACK_S)
            counted = sum(total_of(totals, life) for life in self._lives)
            say(f"{lines.metric}: {len(lines.sent):,} lines sent, {counted:,.0f} counted")
            wrong += [f"{lines.metric}: {problem}" for problem in problems]
        for one in wrong:
            say(f"WRONG {one}")
        return not wrong

    def _wrong_of_scraping(
        self, stored: dict[tuple[str, int], set[tuple[int, float]]]
    ) -> list[str]:
        shown = self._target.shown
        found = [{value for _, value in stored[self._target.metric, n]} for n in range(SERIES)]
        more = sum(len(values - set(shown)) for values in found)
        lost = {value for values in found for value in set(shown) - values}
        edges = [life.ended for life in self._lives]
        surely = [v for v in lost if all(abs(shown[v] - edge) > SLACK_S for edge in edges)]
        say(
            f"scrape: {len(shown) * SERIES:,} samples exposed: {len(lost)} scrapes lost at kills,"
            f" {len(surely)} at other times, {more} samples more than were exposed"
        )
        return ["scrape"] if more or surely else []

    def _stored(self) -> dict[tuple[str, int], set[tuple[int, float]]]:
        """Times and values by metric and number; -1 for a series without a number."""
        ids: dict[int, tuple[str, int]] = {}
        for name in [*(s.metric for s in self._senders), self._target.metric]:
            extra = {
                self._target.metric: {"job": "chaos", "instance": self._target.address},
                "chaos_pushgateway": {"job": "chaos"},
            }.get(name, {})
            for n in range(SERIES):
                ids[identify(name, {"n": str(n), **extra})[0]] = name, n
        for lines in self._lines:
            ids[identify(lines.metric, {})[0]] = lines.metric, -1
        found: dict[tuple[str, int], set[tuple[int, float]]] = defaultdict(set)
        for series, times, values in columns_in_topic(self._broker, TOPIC):
            rows = zip(series.tolist(), times.tolist(), values.tolist(), strict=True)
            for series_id, ts, value in rows:
                if series_id in ids and not math.isnan(value):  # a staleness marker
                    found[ids[series_id]].add((ts, value))
        return found

    def _while_kafka_takes_all(self) -> None:
        self._kill()

    def _while_it_spools(self) -> None:
        with without_kafka(self._broker):
            self._more()
            self._kill()
            self._more()

    def _while_it_sends_the_spool(self) -> None:
        with without_kafka(self._broker):
            self._more(60)
        self._kill()

    def _kill(self) -> None:
        time.sleep(self._rng.random() * 0.5)  # somewhere in the middle of it
        self._gateway.kill()
        self._scraping.kill()
        self._note_end()
        self._scraping.start()
        self._gateway.start()
        self._ready = time.time()

    def _note_end(self) -> None:
        ended = time.time()
        self._lives.append(Life(self._born, self._ready, ended))
        self._born = ended

    def _more(self, requests: int = 20) -> None:
        """Waits until each protocol has so many more requests acknowledged, scraping among them."""
        goals = [(s.acknowledged, len(s.acknowledged) + requests) for s in self._senders]
        scrapes = len(self._target.shown) + 2
        self._until(lambda: all(len(found) >= goal for found, goal in goals))
        self._until(lambda: len(self._target.shown) >= scrapes)

    def _until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self._gateway)


if __name__ == "__main__":
    sys.exit(main())
