"""Kills the gateway again and again, and counts: what it acknowledged is in Kafka, equal.

    python tests/benchmarks/chaos_gateway.py [--samples 2000000] [--kills 20] [--seed N]

Senders push numbered samples, each request until it is taken, as a Prometheus does. The gateway is
killed (SIGKILL) at these points in turn: while Kafka takes all; while Kafka is away and messages go
to the spool; while the disk takes 0.2 s to sync; while the spool's disk is full; while the spool is
sent to Kafka. At the end everything in Kafka is read: what was acknowledged is there, with its
value, and nothing that was not sent. A full disk takes root, who may mount one; a slow one takes a
C compiler.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from kafka import KafkaAdminClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.accounted import keys_in_topic, keys_of_requests
from tests.benchmarks.bench_ingest import say
from tests.benchmarks.chaos_steps import wait_until, without_kafka
from tests.benchmarks.made_requests import Rounds
from tests.integration.gateway.gateway_process import GatewayProcess
from tests.remote_writing import HEADERS_V1
from tests.sending import SendingThread
from tests.slow_sync import SlowSync
from tests.small_disk import fill, mounted
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker

TOPIC = "raw-metrics"
SENDERS, SERIES, REQUEST = 4, 4_000, 500
DISK_MB, SLOW_S = 256, 0.2
# Between two requests of a sender: else most samples would be sent while the spool takes them.
PAUSE_S = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2_000_000, help="acknowledged ones")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    say(f"seed {args.seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-gateway-"))
    try:
        with ExitStack() as stack:
            disk = stack.enter_context(mounted(folder / "disk", DISK_MB))
            broker = stack.enter_context(Broker(folder / "kafka"))
            chaos = Chaos(broker, folder, disk, random.Random(args.seed))
            return 0 if chaos.run(args.kills, args.samples) else 1
    finally:
        shutil.rmtree(folder)


class Chaos:
    def __init__(self, broker: Broker, folder: Path, disk: Path, rng: random.Random) -> None:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(TOPIC, 3)])
        admin.close()
        self._broker, self._disk, self._rng = broker, disk, rng
        self._sync = SlowSync(folder)
        self._gateway = GatewayProcess(
            folder / "home",
            broker.bootstrap_servers,
            ack_s="1",
            spool=str(disk / "spool"),
            spool_mb=str(4 * DISK_MB),
        )
        self._gateway.environment |= self._sync.environment
        self._senders: list[Sender] = []
        self._points: list[Callable[[], None]] = [
            self._while_kafka_takes_all,
            self._while_it_spools,
            self._while_the_disk_is_slow,
            self._while_the_disk_is_full,
            self._while_it_sends_the_spool,
        ]

    def run(self, kills: int, samples: int) -> bool:
        self._gateway.start()
        self._senders = [Sender(self._gateway.url, n) for n in range(SENDERS)]
        try:
            for number in range(kills):
                point = self._points[number % len(self._points)]
                begun = time.monotonic()
                point()
                say(
                    f"kill {number + 1} of {kills} {point.__name__.strip('_').replace('_', ' ')}:"
                    f" {time.monotonic() - begun:.1f} s, {self._acknowledged():,} acknowledged"
                )
            self._until(lambda: self._acknowledged() >= samples)
        finally:
            for sender in self._senders:
                sender.stop()
        self._until(lambda: self._gateway.metrics()["varve_gateway_spool_bytes"] == 0)
        assert self._gateway.stop() == 0
        return self._judge(samples)

    def _judge(self, samples: int) -> bool:
        stored = keys_in_topic(self._broker, TOPIC)
        acknowledged, sent = (
            np.concatenate([keys_of_requests(s.rounds, times(s)) for s in self._senders])
            for times in (lambda s: s.acknowledged, lambda s: s.rounds.times)
        )
        lost = len(np.setdiff1d(acknowledged, stored))
        more = len(np.setdiff1d(stored, sent))
        refused = sum(s.refused for s in self._senders)
        say(
            f"{len(acknowledged):,} samples acknowledged, {refused:,} requests answered 503:"
            f" {lost:,} samples lost, {more:,} more than were sent"
        )
        return not lost and not more and len(acknowledged) >= samples

    def _while_kafka_takes_all(self) -> None:
        self._more(20_000)
        self._kill()

    def _while_it_spools(self) -> None:
        with without_kafka(self._broker):
            self._more(20_000)
            self._kill()
            self._more(5_000)

    def _while_the_disk_is_slow(self) -> None:
        with without_kafka(self._broker):
            self._sync.take(SLOW_S)
            self._more(5_000)
            self._kill()
            self._more(2_000)
            self._sync.take(0)

    def _while_the_disk_is_full(self) -> None:
        with without_kafka(self._broker):
            self._more(5_000)
            filler = fill(self._disk, leave_bytes=200_000)
            refused = self._refused()
            self._until(lambda: self._refused() > refused + 10)
            self._kill()
            self._until(lambda: self._refused() > refused + 20)
            filler.unlink()
            self._more(5_000)

    def _while_it_sends_the_spool(self) -> None:
        with without_kafka(self._broker):
            self._more(60_000)
        self._kill()

    def _kill(self) -> None:
        time.sleep(self._rng.random() * 0.2)  # somewhere in the middle of it
        self._gateway.kill()
        self._gateway.start()

    def _more(self, samples: int) -> None:
        goal = self._acknowledged() + samples
        self._until(lambda: self._acknowledged() >= goal)

    def _acknowledged(self) -> int:
        return sum(len(s.acknowledged) for s in self._senders) * REQUEST

    def _refused(self) -> int:
        return sum(s.refused for s in self._senders)

    def _until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self._gateway)


class Sender(SendingThread):
    """Sends requests one after the other, each until it is taken."""

    def __init__(self, url: str, number: int) -> None:
        self.rounds = Rounds(SERIES, REQUEST, sender=str(number))
        self.acknowledged: set[int] = set()
        """The times of requests that were taken."""
        self.refused = 0
        self._url = url
        super().__init__()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopping.is_set():
                before = len(self.rounds.times)
                bodies = self.rounds.next()
                times = list(self.rounds.times)[before:]
                for ts, body in zip(times, bodies, strict=True):
                    self._deliver(client, ts, body)

    def _deliver(self, client: httpx.Client, ts: int, body: bytes) -> None:
        while not self._stopping.is_set():
            try:
                answer = client.post("/api/v1/write", content=body, headers=HEADERS_V1)
            except httpx.HTTPError:
                self._stopping.wait(0.02)
                continue
            if answer.status_code == 204:
                self.acknowledged.add(ts)
                self._stopping.wait(PAUSE_S)
                return
            assert answer.status_code == 503, answer.text
            self.refused += 1
            self._stopping.wait(0.05)


if __name__ == "__main__":
    sys.exit(main())
