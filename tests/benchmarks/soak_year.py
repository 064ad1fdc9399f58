"""Fourteen months of tables in some minutes: rolled up, compacted, moved, expired, vacuumed daily.

    python tests/benchmarks/soak_year.py [--days 420] [--series 200] [--each 7200] [--seed N]

The time is simulated; files, commits and drivers are real. Some samples come late, by as much as is
allowed. Rows move to a warm root after five days and to a cold one after twenty. Beside the tables
an oracle keeps every sample and computes every row from them all: every two months, and at the end,
whatever has not expired must be as it says, in whatever root it lies. Prints what each month costs,
and fails if what is stored, the hot root, the logs or the time to open the tables go on growing.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

from tests.year import BEGIN, TABLES, Year, retention  # noqa: E402
from varve.model.identity import SeriesDefinition, define  # noqa: E402
from varve.model.window import DAY_MS  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402

KEPT = retention(30, 60, 120, 395, 395, debug=(1, 2))
MOVED_AFTER = (5 * DAY_MS, 20 * DAY_MS)
ROOTS = ("hot", "warm", "cold")
MONTH, CHECK = 30, 60
GROWTH = 1.3
"""How many times what it was once it was full a figure may become: the last months differ by how
many files happen to be merged.
"""
# Days after which each figure must not grow.
FULL = {"samples": 60, "rollup_1m": 90, "rollup_5m": 150, "hot MB": 60, "warm MB": 60}
MOST_OPENING_MS = 1_000
MOST_LOG_MB = 50


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=420)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--each", type=int, default=7_200, help="seconds from sample to sample")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}; rows by table; live files and MB by root; logs; opening all tables")
    with tempfile.TemporaryDirectory() as folder:
        cold = Store(f"{folder}/cold")
        colder = Store(f"{folder}/warm", {}, cold)
        series = list(some_series(args.series))
        year = Year(f"{folder}/hot", KEPT, args.seed, args.each * 1_000, colder, series)
        failures = simulate(year, args.days, Path(folder))
    print("\n".join(failures) or "nothing grows that must not")
    return 1 if failures else 0


def some_series(count: int) -> Iterator[SeriesDefinition]:
    """One in twenty is of the class that is kept for a day."""
    for n in range(count):
        name, env = ("debug_calls", "dev") if n % 20 == 19 else ("requests_total", "prod")
        yield define(name, {"env": env, "host": str(n)})


def simulate(year: Year, days: int, folder: Path) -> Sequence[str]:
    """Lives through the days; returns what grew that must not."""
    full: dict[str, float] = {}
    failures = []
    for day in range(1, days + 1):
        year.day(parts=2)
        year.compact()
        year.tier(MOVED_AFTER)
        year.expire()
        year.vacuum()
        if day % MONTH and day != days:
            continue
        figures, opened_ms, log_mb = state(year, folder)
        for name, since in FULL.items():
            if day >= since and figures[name] > GROWTH * full.setdefault(name, figures[name]):
                failures.append(f"{name}: {figures[name]:,.2f} on day {day}")
        if opened_ms > MOST_OPENING_MS or log_mb > MOST_LOG_MB:
            failures.append(f"day {day}: opened in {opened_ms:.0f} ms, logs of {log_mb:.1f} MB")
        if day % CHECK == 0 or day == days:
            print("  as the oracle has it:", year.check(), flush=True)
    return failures


def state(year: Year, folder: Path) -> tuple[dict[str, float], float, float]:
    """Prints a line of figures, and returns them, the ms to open all tables, and MB of logs."""
    begun = time.perf_counter()
    tables = {name: snapshot(year.store, name) for name in TABLES}
    opened_ms = (time.perf_counter() - begun) * 1_000
    figures: dict[str, float] = {n: sum(f.rows for f in t.files) for n, t in tables.items()}
    files = []
    for name, root in zip(ROOTS, year.store.roots(), strict=True):
        there = [
            file
            for table in tables.values()
            for file in table.files
            if year.store.place(file.path)[0].root == root.root
        ]
        files.append(f"{name} {len(there):,} of {sum(f.size for f in there) / 1e6:.2f} MB")
        figures[f"{name} MB"] = sum(f.size for f in there) / 1e6
    logs = [file.stat().st_size for file in folder.glob("*/*/_delta_log/*")]
    day = (year.clock.now_ms() - BEGIN) // DAY_MS
    rows = " ".join(f"{int(figures[name]):>9,}" for name in TABLES)
    print(
        f"day {day:3}: {rows}; {', '.join(files)};"
        f" logs {len(logs):,} files of {sum(logs) / 1e6:.2f} MB; {opened_ms:.0f} ms",
        flush=True,
    )
    return figures, opened_ms, sum(logs) / 1e6


if __name__ == "__main__":
    sys.exit(main())
