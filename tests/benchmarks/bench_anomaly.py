"""Finds injected incidents in a generated service, by each baseline: precision, recall, delay.

Four weeks of minutes of series with daily and weekly seasons, noise, bursts and counts; in the week
after them incidents of five kinds, and the week before an incident that poisons the mean. Every day
of the last week is judged by the baselines of the weeks before it. Series without an incident tell
how many episodes are false. Then it measures what judging a million series costs.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from varve.anomaly.baselines import DAY, HISTORY_HOURS, baseline_rows
from varve.anomaly.episodes import CLOSE, OPEN, Deviation, Track
from varve.anomaly.hour_features import as_hours, hour_features
from varve.anomaly.minute_values import MinuteValues
from varve.anomaly.rules import Rule
from varve.anomaly.scores import score
from varve.model.baseline_index import BaselineIndex

MINUTE, HOUR = 60_000, 3_600_000
WEEK = 7 * 24 * 60
MONDAY = 1_795_392_000_000 - 1_795_392_000_000 % (7 * 86_400_000) + 4 * 86_400_000
END = MONDAY + 5 * WEEK * MINUTE
KINDS = ("noise", "daily", "weekly", "counts", "rare events", "skewed")
INCIDENTS = ("spike", "level shift", "slow leak", "outage", "doubled noise")
RULES = {
    "reference, 7 days": Rule(season="none"),
    "chosen: season, median": Rule(),
}


@dataclass
class Found:
    """Of one baseline."""

    hit: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    missed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By incident, the kind of each series in which it was not found."""
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    doubled: int = 0
    false: int = 0
    hours: float = 0.0


def series(random: np.random.Generator, kind: str) -> tuple[np.ndarray, float]:
    """Five weeks of minutes, and the spread that an incident is measured in."""
    at = np.arange(5 * WEEK)
    day = np.sin(at / 1440 * 2 * np.pi)
    workday = ((at // 1440) % 7 < 5).astype(float)
    noise = random.normal(0, 1, len(at))
    if kind == "noise":
        return 100 + 5 * noise, 5.0
    if kind == "daily":
        return 100 + 40 * day + 4 * noise, 4.0
    if kind == "weekly":
        return 100 + 40 * day * (0.3 + workday) + 30 * workday + 4 * noise, 4.0
    if kind == "counts":
        rate = 20 + 15 * day
        return random.poisson(rate).astype(float), float(np.sqrt(20))
    if kind == "rare events":  # a counter: growth per second
        return random.poisson(0.01, len(at)) / 60, 1 / 60
    return random.gamma(4, 5, len(at)) * (1.5 + day), 15.0


def inject(values: np.ndarray, kind: str, begin: int, spread: float) -> int:
    """Writes the incident into the minutes from `begin`; returns its end."""
    length = {"spike": 5, "level shift": 180, "slow leak": 480, "outage": 30}.get(kind, 120)
    part = slice(begin, begin + length)
    if kind == "outage":
        values[part] = 0.0
    elif kind == "slow leak":
        values[part] += np.linspace(0, 15 * spread, length)
    elif kind == "doubled noise":
        values[part] += np.random.default_rng(begin).normal(0, 4 * spread, length)
    else:
        values[part] += (12 if kind == "spike" else 8) * spread
    return begin + length


def numbers(values: np.ndarray, first: int, series_id: int = 1) -> MinuteValues:
    count = len(values)
    ends = MONDAY + (first + 1 + np.arange(count)) * MINUTE
    return MinuteValues(np.full(count, series_id), ends, values, np.zeros(count, np.int64))


def judge_week(values: np.ndarray, rule: Rule, *, is_rate: bool) -> list[tuple[int, int, int]]:
    """Episodes of the last week as minutes: opened, first, last."""
    none = np.empty(0, np.int64)
    features = hour_features(numbers(values, 0), none, 0)
    track, found = Track(1), []
    for begin in range(4 * WEEK, 5 * WEEK, 1440):
        until = MONDAY + begin * MINUTE
        known = features.filter(features["window_end"].to_numpy() <= until)
        hours = as_hours(known, until, HISTORY_HOURS)
        index = BaselineIndex.of(baseline_rows(hours, np.array([is_rate]), 0))
        minutes = numbers(values[begin : begin + 1440], begin)
        judged = score(minutes, np.zeros(1440, np.int64), (rule,), index)
        judged = judged.where(judged.is_deviation)
        far = [
            Deviation(int(e), float(v), float(x), float(s), 0)
            for e, v, x, s in zip(
                judged.ends, judged.values, judged.expected, judged.score, strict=True
            )
        ]
        found += track.advance(far, until + DAY * HOUR, rule)
    opened = {e.episode.episode_id: e.decided_at for e in found if e.event == OPEN}
    closed = [e.episode for e in found if e.event == CLOSE]
    closed += [track.episode] if track.episode else []
    return [
        tuple((t - MONDAY) // MINUTE for t in (opened[e.episode_id], e.starts_at, e.last_at))
        for e in closed
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=4, help="series of each kind and incident")
    parser.add_argument("--clean", type=int, default=12, help="series of each kind without any")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--million", type=int, default=1_000_000, help="series whose cost is measured"
    )
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    found = {name: Found() for name in RULES}
    for kind in KINDS:
        rare = kind == "rare events"
        for incident in INCIDENTS:
            for _ in range(args.copies):
                values, spread = series(random, kind)
                # The week before had a day of it, at the same hour.
                begin = (
                    4 * WEEK + int(random.integers(2, 6)) * 1440 + int(random.integers(480, 900))
                )
                values[begin - WEEK : begin - WEEK + 90] += 40 * spread
                end = inject(values, incident, begin, spread)
                for name, rule in RULES.items():
                    told = judge_week(values, rule, is_rate=rare)
                    _count(found[name], told, incident, kind, begin, end)
        for _ in range(args.clean):
            values, _spread = series(random, kind)
            for name, rule in RULES.items():
                found[name].false += len(judge_week(values, rule, is_rate=rare))
                found[name].hours += 168
    for name, result in found.items():
        _print(name, result)
    _measure(args.million)


def _count(
    found: Found,
    episodes: list[tuple[int, int, int]],
    incident: str,
    kind: str,
    begin: int,
    end: int,
) -> None:
    touching = [e for e in episodes if e[1] <= end + 1 and e[2] >= begin]
    found.false += len(episodes) - len(touching)
    found.hours += 168
    if touching:
        found.hit[incident] += 1
        found.doubled += len(touching) - 1
        found.delays[incident].append(min(e[0] for e in touching) - begin)
    else:
        found.missed[incident].append(kind)


def _print(name: str, found: Found) -> None:
    hits, misses = sum(found.hit.values()), sum(map(len, found.missed.values()))
    told = hits + found.false
    precision = hits / told if told else 1
    print(f"\n{name}: precision {precision:.2f}, recall {hits / (hits + misses):.2f},")
    print(
        f"  {found.false / found.hours * 10_000:.2f} false episodes in 10,000 series-hours,"
        f" {found.doubled} incidents told as two"
    )
    for incident in INCIDENTS:
        delays = found.delays[incident]
        delay = f"{np.median(delays):.0f} min" if delays else "-"
        missed = Counter(found.missed[incident])
        all_of = found.hit[incident] + missed.total()
        text = f"  {incident:<14} found {found.hit[incident]} of {all_of}, median delay {delay}"
        kinds = ", ".join(f"{count} of {kind}" for kind, count in missed.most_common())
        print(text + (f"; missed {kinds}" if kinds else ""))


def _measure(count: int) -> None:
    """CPU seconds to look up and score one minute of so many series."""
    import pyarrow as pa

    from varve.model.schema import table_schema

    schema = table_schema("baselines").arrow
    ids = np.arange(count)
    columns = {
        "series_id": ids,
        "hour_of_week": np.full(count, -1, np.int32),
        "mean": np.full(count, 10.0),
        "stddev": np.full(count, 1.0),
        "count": np.full(count, 10_080),
        "computed_at": np.zeros(count, np.int64),
        "season": pa.array(["none"] * count),
        "method": pa.array(["mean"] * count),
        "is_rate": np.zeros(count, np.bool_),
        "error": np.zeros(count),
        "revision": np.zeros(count, np.int64),
    }
    table = pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
    begun = time.process_time()
    index = BaselineIndex.of(table)
    loaded = time.process_time()
    values = np.random.default_rng(1).normal(10, 1, count)
    minute = MinuteValues(ids, np.full(count, MONDAY), values, np.zeros(count, np.int64))
    score(minute, np.zeros(count, np.int64), (Rule(),), index)
    done = time.process_time()
    print(
        f"\n{count:,} series: {done - loaded:.2f} CPU s a minute to score,"
        f" {loaded - begun:.2f} CPU s an hour to take up new baselines"
    )


if __name__ == "__main__":
    main()
