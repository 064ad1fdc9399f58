"""A storm on bulk beside critical samples: who is delayed, what is refused, what is lost."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.accounted import keys_in_topic, keys_of_requests
from tests.benchmarks.bench_ingest import say
from tests.benchmarks.made_requests import Rounds
from tests.benchmarks.running_gateway import Answered, RunningGateway, sending
from varve.local.broker import Broker

FACTOR = 20
_CALM_RATE = 50_000.0
_CALM_CONNECTIONS, _STORM_CONNECTIONS = 4, 1_000
_CRITICAL_SAMPLES, _CRITICAL_A_SECOND = 200, 40
_WARM_S = 3.0
# What is measured is the gateway: the sender of critical samples must not wait for its own machine,
# and those of bulk take only what the gateway and Kafka leave of it.
_CRITICAL_NICENESS, _BULK_NICENESS = -10, 5
_TAKEN = 204


def run(broker: Broker, folder: Path, args: argparse.Namespace) -> bool:
    """Calm, then a storm, once all is warm. Prints each; whether all bounds were kept."""
    rate = args.rate or _CALM_RATE
    settings = {"critical": '{severity="page"}', "spool_mb": "64"}
    with RunningGateway(broker, folder, "storm", **settings) as gateway:
        critical = Rounds(_CRITICAL_SAMPLES, _CRITICAL_SAMPLES, severity="page")
        bulk = Rounds(10_000)
        warm = _phase("warm-up", gateway, critical, bulk, rate, _CALM_CONNECTIONS, _WARM_S)
        calm = _phase("calm", gateway, critical, bulk, rate, _CALM_CONNECTIONS, args.seconds)
        storm = _phase(
            "storm", gateway, critical, bulk, rate * FACTOR, _STORM_CONNECTIONS, args.seconds
        )
        gateway.wait_until_spools_are_empty()
        text = gateway.page()
    lost = sum(
        len(np.setdiff1d(keys_of_requests(rounds, taken), keys_in_topic(broker, topic)))
        for topic, rounds, taken in (
            ("storm", bulk, warm.bulk_times | calm.bulk_times | storm.bulk_times),
            (
                "storm-critical",
                critical,
                warm.critical_times | calm.critical_times | storm.critical_times,
            ),
        )
    )
    refused = storm.statuses[503]
    counted = _counted(text, "503")
    say(
        f"critical p99 {calm.p99_ms:.1f} ms calm, {storm.p99_ms:.1f} ms in the storm;"
        f" {refused:,} requests of bulk refused with 503, {counted:,} counted;"
        f" {lost:,} samples of those acknowledged lost"
    )
    return storm.p99_ms <= 2 * calm.p99_ms and refused == counted and not lost


class _Phase:
    """What came of a phase."""

    def __init__(
        self,
        critical: Sequence[Answered],
        bulk: Sequence[Answered],
        critical_times: Sequence[int],
        bulk_times: Sequence[int],
    ) -> None:
        times_ms = [one.seconds * 1000 for one in critical]
        self.p50_ms, self.p99_ms = (float(np.percentile(times_ms, p)) for p in (50, 99))
        self.late_p99_ms = float(np.percentile([one.late_s * 1000 for one in critical], 99))
        self.statuses = Counter(one.status for one in bulk)
        self.critical_times = _taken(critical, critical_times)
        self.bulk_times = _taken(bulk, bulk_times)


def _critical_niceness() -> int:
    """What this user may ask for."""
    return _CRITICAL_NICENESS if os.geteuid() == 0 else 0


def _taken(answers: Sequence[Answered], times: Sequence[int]) -> set[int]:
    """The times of the requests that were acknowledged, which no two have in common."""
    return {times[one.number] for one in answers if one.status == _TAKEN}


def _phase(
    name: str,
    gateway: RunningGateway,
    critical: Rounds,
    bulk: Rounds,
    rate: float,
    connections: int,
    seconds: float,
) -> _Phase:
    request = 5_000
    bulk_bodies, bulk_times = _made(bulk, int(seconds * rate / request))
    critical_bodies, critical_times = _made(critical, int(seconds * _CRITICAL_A_SECOND))
    every_s = 1 / _CRITICAL_A_SECOND
    with (
        sending(
            critical_bodies, gateway.port, 1, 8, every_s, niceness=_critical_niceness()
        ) as critical_answers,
        sending(
            bulk_bodies, gateway.port, 1, connections, request / rate, niceness=_BULK_NICENESS
        ) as bulk_answers,
    ):
        begun = time.monotonic()
        found = _Phase(critical_answers(), bulk_answers(), critical_times, bulk_times)
        in_fact = len(bulk_bodies) * request / (time.monotonic() - begun)
    say(
        f"{name}: {rate:,.0f} bulk samples/s offered, {in_fact:,.0f} in fact, answers"
        f" {dict(found.statuses)}; critical: {len(found.critical_times):,} of"
        f" {len(critical_times):,} requests taken, p50 {found.p50_ms:.1f} ms, p99"
        f" {found.p99_ms:.1f} ms, of which their sender was late by {found.late_p99_ms:.1f} ms"
        f" (p99); gateway {gateway.memory() / 2**20:,.0f} MiB"
    )
    return found


def _made(rounds: Rounds, count: int) -> tuple[list[bytes], list[int]]:
    """So many requests, and their times."""
    known = len(rounds.times)
    bodies: list[bytes] = []
    while len(bodies) < count:
        bodies += rounds.next()
    return bodies, list(rounds.times)[known:]


def _counted(page: str, code: str) -> int:
    """Requests of that status, as the gateway counts them."""
    name = "varve_gateway_requests_total{"
    found = [
        line for line in page.splitlines() if line.startswith(name) and f'code="{code}"' in line
    ]
    return int(sum(float(line.rpartition(" ")[2]) for line in found))
