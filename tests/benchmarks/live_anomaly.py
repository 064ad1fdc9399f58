"""Incidents of every kind through Kafka, Spark and Delta of a whole `varve up`: an episode each.

A generated service has three weeks of minutes. Baselines are computed from those up to the day
before yesterday; then the last days come late, with an incident in each series but the clean ones,
while this machine's own metrics are collected. At the end one series leaves its baseline now, again
and again: how long is it from the end of the minute to the event on the topic?
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import datetime as dt
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from tests.integration.local.up_process import Up
from varve.anomaly.episode_rows import newest_episodes
from varve.client import Producer, Sample
from varve.model.identity import SeriesDefinition, define
from varve.model.resources import conf_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TOPIC = "metric-anomalies"
WEEKS = 3
AIM_S = 40.0
RULE = """
[rule.service]
match = { __name__ = "bench_load", case = "missing data" }
silent_minutes = 5
"""


@dataclass(frozen=True)
class Case:
    """A series with an incident of `minutes` minutes that begins `begin` ms after the midnight
    before yesterday; none in a clean one. change: what becomes of its values (times in minutes).
    """

    name: str
    begin: int = 0
    minutes: int = 0
    change: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda values, _: values

    @property
    def series(self) -> SeriesDefinition:
        return define("bench_load", {"case": self.name}, metric_type="gauge")


YESTERDAY = DAY
CASES = (
    Case("spike", YESTERDAY + 10 * HOUR, 5, lambda v, _: v + 60),
    Case("level shift", YESTERDAY + 9 * HOUR, 180, lambda v, _: v + 40),
    Case("slow leak", YESTERDAY + 8 * HOUR, 480, lambda v, at: v + 75 * at / 480),
    Case("answers of 0", YESTERDAY + 11 * HOUR, 30, lambda v, _: 0 * v),
    Case("missing data", YESTERDAY + 11 * HOUR, 30, lambda v, _: np.nan * v),
    Case("a workday's load at the weekend", YESTERDAY + 8 * HOUR, 480, lambda v, _: v + 50),
    Case("a workday's load on the holiday", 8 * HOUR, 480, lambda v, _: v + 50),
    Case("clean"),
    Case("clean, quiet on the holiday"),
)
LIVE = tuple(define("bench_live", {"case": str(n)}, metric_type="gauge") for n in range(10))


def main() -> int:
    args = arguments()
    now_ms = int(time.time() * 1000)
    today_ms = now_ms // DAY * DAY
    before_ms = today_ms - 2 * DAY  # the holiday
    holiday = dt.datetime.fromtimestamp(before_ms / 1000, dt.UTC).date()
    rest_day = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")[
        (holiday.weekday() + 1) % 7  # every yesterday of the history is one
    ]
    with tempfile.TemporaryDirectory(prefix="live-anomaly-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        rules = (conf_dir() / "anomalies.toml").read_text()
        (home / "anomalies.toml").write_text(rules + RULE)
        up = Up(
            home,
            VARVE_ROLLUP__GRACE_S="10",
            VARVE_ROLLUP__REPAIR_EVERY_S="5",
            VARVE_RETENTION__SAMPLES_DAYS="60",
            VARVE_RETENTION__ROLLUP_1M_DAYS="90",
            VARVE_RETENTION__ROLLUP_5M_DAYS="120",
            VARVE_FORECASTS__ENABLED="false",
            VARVE_ANOMALIES__BASELINE_EVERY_S=str(args.baseline_every),
            VARVE_HOLIDAYS__DATES=holiday.isoformat(),
            VARVE_HOLIDAYS__LIKE=rest_day,
        )
        try:
            up.until_ready()
            store = Store(str(up.home / "tables"))
            servers = f"127.0.0.1:{up.ports[0]}"
            print(f"ready; {WEEKS} weeks of {len(CASES) + len(LIVE)} series", flush=True)
            history = values_of(today_ms, before_ms)
            send(servers, samples(history, 0, before_ms))
            until(lambda: has_baselines(store), args.deadline, "there are no weekly baselines")
            print("baselines stand; the last days come", flush=True)
            span = before_ms, int(time.time() * 1000) // MINUTE * MINUTE
            send(servers, samples(history, *span))
            until(lambda: is_told(store, span), args.deadline, "incidents are missed")
            found = report(store, span)
            ages = measure(servers, args.probes)
        finally:
            up.process.send_signal(signal.SIGTERM)
            try:
                up.process.wait(60)
            finally:
                up.end()
    print(f"end of the minute to the event: {', '.join(f'{age:.1f}' for age in ages)} s")
    return 0 if found and ages and max(ages) <= AIM_S else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=5, help="incidents that are live, 10 at most")
    parser.add_argument("--deadline", type=float, default=600, help="seconds to wait for each step")
    parser.add_argument(
        "--baseline-every",
        type=float,
        default=900,
        help="seconds between looks of the baselines, longer than the last days take to come",
    )
    return parser.parse_args()


def values_of(today_ms: int, before_ms: int) -> dict[SeriesDefinition, tuple[np.ndarray, ...]]:
    """Times and values of each series, by the minute up to today's end."""
    random = np.random.default_rng(1)
    begin = today_ms - WEEKS * 7 * DAY
    ts = np.arange(begin, today_ms + DAY, MINUTE)
    day = np.sin(ts % DAY / DAY * 2 * np.pi - np.pi / 2)
    # Days like yesterday are weekends, and so is the holiday.
    age = (today_ms - ts + DAY - 1) // DAY
    is_rest = (age % 7 == 1) | ((ts >= before_ms) & (ts < before_ms + DAY))
    found = {}
    for case in CASES:
        values = 100 + 20 * day + 50.0 * ~is_rest + random.normal(0, 4, len(ts))
        at = (ts - before_ms - case.begin) / MINUTE
        inside = (at >= 0) & (at < case.minutes)
        values[inside] = case.change(values[inside], at[inside])
        found[case.series] = ts, values
    for series in LIVE:
        found[series] = ts, random.normal(100, 4, len(ts))
    return found


def samples(
    history: dict[SeriesDefinition, tuple[np.ndarray, ...]], after_ms: int, until_ms: int
) -> Iterable[Sample]:
    for series, (ts, values) in history.items():
        part = (ts >= after_ms) & (ts < until_ms) & np.isfinite(values)
        for at, value in zip(ts[part].tolist(), values[part].tolist(), strict=True):
            yield Sample(series, at + MINUTE // 2, value)


def send(servers: str, given: Iterable[Sample]) -> None:
    with Producer(servers, stale_markers=False) as producer:
        refused = producer.put(given, wait_s=60)
        counts = producer.close(60)
    if refused or counts.lost or counts.waiting:
        raise SystemExit(f"Kafka did not take everything: {counts}")


def has_baselines(store: Store) -> bool:
    """Whether every case has one by the hour of the week, and the live series any."""
    rows = snapshot(store, "baselines").scan(Bounds(), ("series_id", "season")).to_pylist()
    weekly = {row["series_id"] for row in rows if row["season"] == "week"}
    there = {row["series_id"] for row in rows}
    return {c.series.series_id for c in CASES} <= weekly and LIVE[0].series_id in there


def told(store: Store, span: tuple[int, int]) -> list[dict]:
    """Episodes of the cases that began in the last days: later there are no samples of them."""
    ids = {case.series.series_id for case in CASES}
    rows = newest_episodes(snapshot(store, "episodes"))
    rows = [row for row in rows if row["series_id"] in ids and row["state"] != "withdrawn"]
    return [row for row in rows if span[0] < row["starts_at"] <= span[1]]


def is_told(store: Store, span: tuple[int, int]) -> bool:
    """Whether each case with an incident has an episode that has ended, and no other is open."""
    rows = told(store, span)
    due = {case.series.series_id for case in CASES if case.minutes}
    ended = {row["series_id"] for row in rows if row["state"] == "closed"}
    return due <= ended and all(row["state"] != "open" for row in rows)


def report(store: Store, span: tuple[int, int]) -> bool:
    """Prints the episodes of each case; whether each incident is one, and nothing else is any."""
    rows = told(store, span)
    well = True
    print("| incident | minutes | episodes | begins after | others |")
    print("| --- | --- | --- | --- | --- |")
    for case in CASES:
        own = [row for row in rows if row["series_id"] == case.series.series_id]
        first = span[0] + case.begin
        last = first + case.minutes * MINUTE
        hits = [r for r in own if r["starts_at"] <= last + MINUTE and r["last_at"] >= first]
        hits = hits if case.minutes else []
        others = len(own) - len(hits)
        after = f"{(hits[0]['starts_at'] - first) / MINUTE:.0f} min" if hits else ""
        print(f"| {case.name} | {case.minutes} | {len(hits)} | {after} | {others} |")
        well &= len(hits) == (case.minutes > 0) and not others
    return well


def measure(servers: str, probes: int) -> list[float]:
    """Seconds from the end of the minute to its event, of an incident of a minute in each of the
    live series, one a minute.
    """
    consumer = KafkaConsumer(bootstrap_servers=servers)
    partitions = [TopicPartition(TOPIC, n) for n in consumer.partitions_for_topic(TOPIC)]
    consumer.assign(partitions)
    consumer.seek_to_end(*partitions)
    ages: dict[str, float] = {}
    first = int(time.time()) // 60 + 1
    deadline = (first + probes) * 60 + 120
    with Producer(servers, linger_ms=10, stale_markers=False) as producer:
        while len(ages) < probes and time.time() < deadline:
            minute = int(time.time()) // 60 - first
            for n in range(probes):
                tags = dict(LIVE[n].tags)
                producer.gauge("bench_live", 200.0 if n == minute else 100.0, tags)
            for messages in consumer.poll(1_000).values():
                for message in messages:
                    event = json.loads(message.value)
                    for series in event["series"]:
                        if event["event"] == "open" and series["metric"] == "bench_live":
                            age = time.time() - event["decided_at"] / 1000
                            ages.setdefault(series["tags"]["case"], age)
    consumer.close()
    return list(ages.values()) if len(ages) == probes else []


def until(condition: Callable[[], bool], deadline_s: float, why: str) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            print(f"{why} after {deadline_s:.0f} s", flush=True)
            return
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
