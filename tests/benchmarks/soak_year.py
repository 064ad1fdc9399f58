"""Fourteen months of tables in some minutes: late samples, rollups, compaction and daily expiry.

    python tests/benchmarks/soak_year.py [--days 420] [--each 1800] [--seed N]

The time is simulated; files, commits and drivers are real. Beside them an oracle keeps every sample
and computes every row from them all: every two months whatever has not expired must be as it says.
Prints what each month costs, and fails if what is stored goes on growing once a tier is full.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

from tests.year import TABLES, Year, retention  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402

KEPT = retention(15, 30, 90, 395, 395, debug=(1, 2))
MONTH, CHECK = 30, 60
# A table is full after so many days, and then holds at most this many times what it did.
FULL = {"samples": 30, "rollup_1m": 60, "rollup_5m": 120}
GROWTH = 1.3


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=420)
    parser.add_argument("--each", type=int, default=1_800, help="seconds from sample to sample")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(
        f"seed {args.seed}", "rows by table, live files, MB live, ms to open all tables", sep="\n"
    )
    with tempfile.TemporaryDirectory() as root:
        year = Year(root, KEPT, args.seed, args.each * 1_000)
        full: dict[str, int] = {}
        failures = []
        for day in range(1, args.days + 1):
            year.day(parts=2)
            year.compact()
            year.expire()
            if day % MONTH:
                continue
            started = time.perf_counter()
            tables = {name: snapshot(year.store, name) for name in TABLES}
            opened_ms = (time.perf_counter() - started) * 1_000
            rows = {name: sum(f.rows for f in t.files) for name, t in tables.items()}
            files = [f for t in tables.values() for f in t.files]
            print(
                f"day {day:3}",
                *(f"{n:9,}" for n in rows.values()),
                f"{len(files):6,} {sum(f.size for f in files) / 1e6:7.2f} {opened_ms:6.0f}",
                flush=True,
            )
            for name, since in FULL.items():
                if day >= since and rows[name] > GROWTH * full.setdefault(name, rows[name]):
                    failures.append(f"{name} has {rows[name]:,} rows on day {day}")
            if day % CHECK == 0:
                print("as the oracle has it:", year.check())
    print("\n".join(failures) or "nothing grows that must not")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
