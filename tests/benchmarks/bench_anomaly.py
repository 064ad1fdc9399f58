"""Finds injected incidents in a generated service, by each baseline: precision, recall, delay.

Four weeks of minutes of series of many kinds; in the week after them incidents of five kinds, and
the week before an incident that poisons the mean. Every day of the last week is judged by the
baselines of the weeks before it. Series without an incident tell how many episodes are false. Then
it measures what judging a million series costs.

With --labelled it judges series of yours instead: CSV files with the columns timestamp, value and,
if incidents are known, label (1 inside of one).
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tests.anomaly_series import DAY, INCIDENTS, KINDS, WEEK, Floats, inject
from tests.anomaly_trial import MINUTE, MONDAY, Episode, judge
from varve.anomaly.baselines import HISTORY_HOURS, baseline_rows
from varve.anomaly.hour_features import Hours
from varve.anomaly.minute_values import MinuteValues
from varve.anomaly.rules import Rule
from varve.anomaly.scores import score
from varve.model.baseline_index import BaselineIndex

RULES = {
    "reference: mean of 7 days, 3 minutes beyond 3": Rule(season="none", adaptive=False),
    "chosen baseline, 3 minutes beyond 3": Rule(adaptive=False),
    "chosen baseline, adaptive": Rule(),
}


@dataclass
class Found:
    """By one rule."""

    hit: Counter[str] = field(default_factory=Counter)
    missed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By incident, the kinds of series in which it was not found."""
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    doubled: int = 0
    false: Counter[str] = field(default_factory=Counter)
    hours: Counter[str] = field(default_factory=Counter)
    """By kind of series."""


@dataclass(frozen=True)
class Subject:
    """A series and what is in it."""

    kind: str
    values: Floats
    incident: str = ""
    begin: int = 0
    end: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=4, help="series of each kind and incident")
    parser.add_argument("--clean", type=int, default=12, help="series of each kind without any")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--million", type=int, default=1_000_000, help="series whose cost is measured"
    )
    parser.add_argument("--labelled", nargs="+", type=Path, metavar="CSV", help="series of yours")
    args = parser.parse_args()
    if args.labelled:
        _judge_labelled(args.labelled)
        return
    random = np.random.default_rng(args.seed)
    found = {name: Found() for name in RULES}
    for kind in KINDS:
        subjects = _subjects(random, kind, args.copies, args.clean)
        values = np.array([subject.values for subject in subjects])
        is_rate = np.full(len(subjects), kind == "rare events")
        for name, rule in RULES.items():
            for subject, told in zip(subjects, judge(values, is_rate, rule, 4 * WEEK), strict=True):
                _count(found[name], subject, told)
    for name, result in found.items():
        _print(name, result)
    apart = multiprocessing.get_context("spawn").Process(target=_measure, args=(args.million,))
    apart.start()
    apart.join()
    _measure_baselines()


def _subjects(random: np.random.Generator, kind: str, copies: int, clean: int) -> list[Subject]:
    found = []
    for incident in INCIDENTS:
        for _ in range(copies):
            values, spread, interval = KINDS[kind](random)
            day, minute = int(random.integers(2, 6)), int(random.integers(480, 900))
            begin = 4 * WEEK + day * DAY + minute // interval * interval
            # The week before had a day of it, at the same hour.
            values[begin - WEEK : begin - WEEK + 90] += 40 * spread
            end = inject(random, values, incident, begin, (spread, interval))
            found.append(Subject(kind, values, incident, begin, end + interval))
    found += [Subject(kind, KINDS[kind](random)[0]) for _ in range(clean)]
    return found


def _count(found: Found, subject: Subject, episodes: Sequence[Episode]) -> None:
    found.hours[subject.kind] += 168
    touching = []
    if subject.incident:
        touching = [e for e in episodes if e[1] <= subject.end + 1 and e[2] >= subject.begin]
    found.false[subject.kind] += len(episodes) - len(touching)
    if touching:
        found.hit[subject.incident] += 1
        found.doubled += len(touching) - 1
        found.delays[subject.incident].append(min(e[0] for e in touching) - subject.begin)
    elif subject.incident:
        found.missed[subject.incident][subject.kind] += 1


def _print(name: str, found: Found) -> None:
    hits = found.hit.total()
    misses = sum(kinds.total() for kinds in found.missed.values())
    told = hits + found.false.total()
    rate = found.false.total() / found.hours.total() * 10_000
    print(f"\n{name}: precision {hits / max(told, 1):.2f}, recall {hits / (hits + misses):.2f},")
    print(
        f"  {rate:.1f} false episodes in 10,000 series-hours, {found.doubled} told more than once"
    )
    for incident in INCIDENTS:
        missed, hit = found.missed[incident], found.hit[incident]
        delay = f"{np.median(found.delays[incident]):.0f} min" if hit else "-"
        text = f"  {incident:<12} found {hit} of {hit + missed.total()}, median delay {delay}"
        kinds = ", ".join(f"{count} of {kind}" for kind, count in missed.most_common())
        print(text + (f"; missed {kinds}" if kinds else ""))
    rates = (
        f"{kind} {count / found.hours[kind] * 10_000:.1f}"
        for kind, count in found.false.most_common()
        if count
    )
    print(f"  false by kind of series: {', '.join(rates) or 'none'}")


def _judge_labelled(paths: Sequence[Path]) -> None:
    """Prints the episodes of series in files, and how many of the labelled incidents they hit."""
    total = Counter[str]()
    for path in paths:
        frame = pd.read_csv(path, parse_dates=["timestamp"])
        begin = frame["timestamp"].min().floor("D")
        at = ((frame["timestamp"] - begin) / pd.Timedelta(minutes=1)).astype(int)
        days = int(at.max()) // DAY + 1
        values = np.full((1, days * DAY), np.nan)
        values[0, at] = frame["value"]
        (told,) = judge(values, np.zeros(1, np.bool_), Rule(), 2 * DAY)
        print(f"{path.name}: {days} days, {len(frame):,} numbers")
        for opened, first, last in told:
            start, end = (begin + pd.Timedelta(minutes=m - 1) for m in (first, last))
            print(
                f"  {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, told {opened - first} min later"
            )
        spans = _labelled_spans(at.to_numpy(), frame)
        hit = [any(f <= b + 1 and e >= a for _, f, e in told) for a, b in spans]
        real = [any(f <= b + 1 and e >= a for a, b in spans) for _, f, e in told]
        total.update(hit=sum(hit), incidents=len(spans), real=sum(real), episodes=len(told))
        total.update(hours=days * 24 - 48)
    if total["incidents"]:
        print(
            f"{total['hit']} of {total['incidents']} incidents found, {total['real']} of"
            f" {total['episodes']} episodes are of one"
        )
    false = (total["episodes"] - total["real"]) / max(total["hours"], 1) * 10_000
    print(f"{false:.1f} other episodes in 10,000 series-hours")


def _labelled_spans(at: np.ndarray, frame: pd.DataFrame) -> list[tuple[int, int]]:
    """First and last minute of each stretch of labelled numbers, after the two days of history."""
    if "label" not in frame:
        return []
    inside = frame["label"].to_numpy() > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    spans = [(int(at[a]), int(at[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in spans if b >= 2 * DAY]


def _measure(count: int) -> None:
    """CPU seconds to look up and score one minute of so many series, and what the process takes."""
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
        "interval_ms": np.full(count, MINUTE),
        "spans_zero": np.ones(count, np.bool_),
    }
    columns |= {f.name: np.full(count, 4.0) for f in schema if f.name not in columns}
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
        f" {loaded - begun:.2f} CPU s an hour to take up new baselines,"
        f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MiB at most"
    )


def _measure_baselines(series: int = 1_000) -> None:
    """CPU seconds to compute the baselines of series with a season and four weeks of hours."""
    random = np.random.default_rng(1)
    shape = series, HISTORY_HOURS
    season = 20 * np.sin(np.arange(HISTORY_HOURS) / 24 * 2 * np.pi)
    mean = 100 + season + random.normal(0, 2, shape)
    ranges = (mean + apart for apart in (-8, 8, -4, 4))
    full, inside = np.full(shape, 60.0), np.full(shape, 240.0)
    hours = Hours(np.arange(series), MONDAY, full, mean, inside, *ranges)
    begun = time.process_time()
    baseline_rows(hours, np.zeros(series, np.bool_), 0)
    print(f"{series:,} series: {time.process_time() - begun:.2f} CPU s an hour for their baselines")


if __name__ == "__main__":
    main()
