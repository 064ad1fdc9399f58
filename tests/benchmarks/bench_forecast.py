"""Forecasts generated series on Spark, and judges them by a week that no model has seen.

Prints for each kind of series the error of both models and of the one chosen in their backtest, and
the share of the week's hours inside the 80 % interval; then how long it took.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from tests.tables import WrittenTables
from varve.forecast import prophet_model, seasonal_naive
from varve.forecast.forecast_job import Forecasting, fit_here
from varve.forecast.hourly import HORIZON, WEEK, Hourly
from varve.forecast.level_shifts import levelled
from varve.forecast.resources import Resource
from varve.maintenance.batch_job import execute
from varve.model.identity import define
from varve.model.series_matcher import SeriesMatcher
from varve.spark.forecast import fit_on
from varve.spark.session import local_conf, session
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

HOUR_MS = 3_600_000
BEGIN = 1_795_392_000_000
HISTORY = 4 * WEEK


def kinds(random: np.random.Generator, hours: int) -> dict[str, np.ndarray]:
    """One series of each kind."""
    at = np.arange(hours)
    day, noise = np.sin(at / 24 * 2 * np.pi), random.normal(0, 1, hours)
    workday = ((at // 24) % 7 < 5).astype(float)
    size = random.uniform(1, 1000)
    shift = random.integers(WEEK, HISTORY - WEEK)
    made = {
        "noise": 10 + noise,
        "daily season": 10 + 3 * day + noise,
        "weekly season": 10 + 3 * day * (0.3 + workday) + 2 * workday + 0.7 * noise,
        "trend and daily season": 5 + 0.02 * at + 2 * day + 0.5 * noise,
        "filling disk, emptied weekly": 5 + (at % WEEK) * 0.05 + 0.3 * day + 0.2 * noise,
        "level shift": 10 + 8 * (at > shift) + 2 * day + noise,
        "random walk": 50 + np.cumsum(0.3 * noise),
        "skewed load": random.gamma(2, 1.5, hours) * (1.2 + day),
        "gaps": np.where((at // 6) % 9 == 4, np.nan, 10 + 3 * day + noise),
        "constant": np.full(hours, 7.0),
    }
    return {name: size * values for name, values in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="without Spark, in this process")
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    truth: dict[int, tuple[str, np.ndarray]] = {}
    definitions = []
    while len(truth) < args.series:
        for name, values in kinds(random, HISTORY + HORIZON).items():
            if len(truth) < args.series:
                definitions.append(
                    define("bench", {"number": str(len(truth))}, metric_type="gauge")
                )
                truth[definitions[-1].series_id] = name, values
    with tempfile.TemporaryDirectory() as folder:
        tables = WrittenTables(f"{folder}/tables")
        tables.define(definitions)
        _put(tables, truth)
        fit = fit_here
        if not args.here:
            conf = local_conf(f"local[{args.cores}]", 1024, Path(folder))
            fit = fit_on(session("bench-forecast", conf))
        selected = Resource("bench", SeriesMatcher.of_metric("bench"))
        begun, used = time.monotonic(), _cpu_s()
        job = Forecasting(tables.store, [selected], fit, lambda _: None, progress=_say)
        print("\n".join(execute(job, tables.store, 0).lines()))
        seconds, used = time.monotonic() - begun, _cpu_s() - used
        _print_errors(tables, truth)
        where = "in this process" if args.here else f"on {args.cores} cores"
        print(f"{args.series:,} series of {HISTORY} hours in {seconds:.0f} s {where}")
        if args.here:
            print(f"{used / args.series:.2f} CPU s a series")


def _cpu_s() -> float:
    """CPU seconds of this process and of Stan, which it starts for each fit."""
    used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def _put(tables: WrittenTables, truth: dict[int, tuple[str, np.ndarray]]) -> None:
    samples = [
        (series_id, BEGIN + hour * HOUR_MS + HOUR_MS // 2, float(value))
        for series_id, (_, values) in truth.items()
        for hour, value in enumerate(values[:HISTORY])
        if not np.isnan(value)
    ]
    tables.put(samples, complete_ms=BEGIN + HISTORY * HOUR_MS)
    tables.roll_up()


def _print_errors(tables: WrittenTables, truth: dict[int, tuple[str, np.ndarray]]) -> None:
    rows = snapshot(tables.store, "forecasts").scan(Bounds()).to_pandas()
    by_series = {i: part.sort_values("ts") for i, part in rows.groupby("series_id")}
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for number, (series_id, (name, values)) in enumerate(truth.items()):
        part = by_series[series_id]
        at = ((part["ts"].to_numpy() - BEGIN) // HOUR_MS - 1).astype(int)
        known = at[(at < len(values))]
        actual = values[known]
        value, lower, upper = (
            part[c].to_numpy()[: len(known)] for c in ("value", "lower", "upper")
        )
        there = ~np.isnan(actual)
        inside = (actual >= lower) & (actual <= upper)
        history = levelled(Hourly(BEGIN + HISTORY * HOUR_MS, values[:HISTORY]))
        naive = seasonal_naive.forecast(history)[: len(known)]
        prophet = np.full(len(known), np.nan)
        if number < 100 and name != "constant":  # of the others the job has the backtest
            prophet = prophet_model.forecast(history, seed=1)[: len(known)]
        step = np.abs(values[24:HISTORY] - values[: HISTORY - 24])
        scale = float(np.nanmean(step)) or 1.0
        errors = [
            float(np.abs(guess - actual)[there].mean()) / scale for guess in (naive, prophet, value)
        ]
        found[name].append((*errors, float(inside[there].mean())))
    print("| kind of series | seasonal naive | Prophet | chosen | in the 80 % interval |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in found.items():
        naive, prophet, chosen, inside = np.array(values).T
        known = prophet[~np.isnan(prophet)]
        tried = f"{known.mean():.2f}" if len(known) else ""
        print(
            f"| {name} | {naive.mean():.2f} | {tried} | {chosen.mean():.2f} | {inside.mean():.0%} |"
        )
    noisy = [v for name, values in found.items() if name != "constant" for v in values]
    print(f"| all but constant | | | | {np.mean([v[3] for v in noisy]):.0%} |")


def _say(done: int, due: int) -> None:
    print(f"{done:,} of {due:,} series", flush=True)


if __name__ == "__main__":
    main()
