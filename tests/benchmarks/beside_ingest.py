"""What stores samples while queries are timed: a steady flow of known series, some new ones each
second, and probes that tell how soon a sample is answered.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from kafka import KafkaProducer

from tests.benchmarks.firehose import Firehose, Template
from tests.benchmarks.live import BULK, Live
from tests.benchmarks.made_requests import ManySeries, RequestsV1, Rounds, snappy
from tests.benchmarks.running_gateway import sending
from varve.model.identity import define

NEW_EACH_SECOND = 100
KNOWN = 100_000
"""Series that have samples all the time."""
_REQUEST = 5_000
_PROBE_EVERY_S = 0.25
_LOOK_EVERY_S = 0.05
_DEADLINE_S = 120.0

Ages = Callable[[], list[float]]
"""Ends the flow; seconds from when each probe was produced until a query answered it."""


@contextmanager
def streams_over(root: Path, folder: Path) -> Iterator[Live]:
    """Streams of `varve up` that store samples in a copy of the tables beneath `root`."""
    live = Live(folder)
    try:
        shutil.rmtree(live.store.root)
        shutil.copytree(root, live.store.root)
        live.start()
        yield live
    finally:
        live.close()


@contextmanager
def flowing(live: Live, rate: int, url: str) -> Iterator[Ages]:
    """So many samples a second, once the first of them has been answered by the query service."""
    context = multiprocessing.get_context("spawn")
    ended, (here, there) = context.Event(), context.Pipe()
    processes = [
        context.Process(target=_flow, args=(live.servers, rate, ended), daemon=True),
        context.Process(target=_probe, args=(live.servers, url, ended, there), daemon=True),
    ]
    for process in processes:
        process.start()

    def ages() -> list[float]:
        ended.set()
        if not here.poll(_DEADLINE_S):
            raise SystemExit("probes are not answered")
        found: list[float] = here.recv()
        return found

    try:
        if not here.poll(_DEADLINE_S):
            raise SystemExit("no probe is answered")
        here.recv()
        yield ages
    finally:
        ended.set()
        for process in processes:
            process.join(_DEADLINE_S)
            process.kill()


@contextmanager
def writing(port: int, rate: int, seconds: float) -> Iterator[None]:
    """The same flow by remote write, made ahead for so long, for what else listens there."""
    fresh = RequestsV1(ManySeries(fresh="yes"))
    rounds, bodies = Rounds(KNOWN, _REQUEST), list[bytes]()
    for number, body in enumerate(rounds.bodies(int(seconds * rate))):
        bodies.append(body)
        if number % max(1, rate // _REQUEST) == 0:
            first = NEW_EACH_SECOND * (number * _REQUEST // rate)
            numbers = range(first, first + NEW_EACH_SECOND)
            times = [int(time.time() * 1000)] * len(numbers)
            bodies.append(snappy(fresh.write(numbers, times, np.ones(len(numbers)))))
    with sending(bodies, port, 1, 8, seconds / len(bodies)):
        yield


def _flow(brokers: str, rate: int, ended: Event) -> None:
    known = [define(f"flow_{n % 50}", {"instance": f"host-{n // 50}"}) for n in range(KNOWN)]
    hose, fresh = Firehose(brokers, BULK, known), KafkaProducer(bootstrap_servers=brokers)
    begun, sent, rounds = time.monotonic(), 0, 0
    while not ended.is_set():
        passed_s = time.monotonic() - begun
        if passed_s >= rounds:
            names = range(rounds * NEW_EACH_SECOND, (rounds + 1) * NEW_EACH_SECOND)
            group = [define("flow_new", {"pod": f"pod-{name}-{begun:.3f}"}) for name in names]
            fresh.send(BULK, Template(group, defined=True).at(_now_ms(), np.ones(len(group))))
            rounds += 1
        if passed_s * rate <= sent:
            ended.wait(0.01)
            continue
        sent += hose.send(_now_ms())
    hose.flush()
    fresh.flush()


def _probe(brokers: str, url: str, ended: Event, told: Connection) -> None:
    """Sends a sample now and then, whose value is its number. Tells when the first one of them is
    answered and, at the end, how long each took that was sent after that.
    """
    producer = KafkaProducer(bootstrap_servers=brokers)
    sent, ages = dict[int, float](), list[float]()
    answered, warm_s, due = 0, 0.0, time.monotonic()
    while not ended.is_set() or (warm_s and answered < len(sent)):
        now = time.monotonic()
        if now >= due and not ended.is_set():
            number = len(sent) + 1
            sample = {"metric": "flow_probe", "value": number, "timestamp": _now_ms()}
            sent[number] = time.monotonic()
            producer.send(BULK, json.dumps(sample).encode())
            due += _PROBE_EVERY_S
        newest, now = _newest(url), time.monotonic()
        seen = [sent[one] for one in range(answered + 1, newest + 1)]
        ages += [now - at for at in seen if warm_s and at >= warm_s]
        if seen and not warm_s:
            warm_s = now
            told.send("warm")
        answered = max(answered, newest)
        time.sleep(_LOOK_EVERY_S)
    told.send(ages)


def _newest(url: str) -> int:
    """The newest probe that a query answers; 0 if none is."""
    asked = urllib.parse.urlencode({"query": "flow_probe"})
    with contextlib.closing(urllib.request.urlopen(f"{url}/api/v1/query?{asked}")) as answer:
        result = json.load(answer)["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
