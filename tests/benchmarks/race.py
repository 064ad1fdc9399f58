"""Everything that changes tables, racing: nothing lost, nothing doubled, readers miss nothing.

    python tests/benchmarks/race.py [--rounds 300] [--runs 3] [--seed N]

Steps are some hours of samples, a few of them late, a step of a rollup, a merge, a move to a colder
root, an expiry, a late sample of what has expired, a deletion that may die, a backup that may be
restored, series that come, go and are trimmed, and a look of a reader, at all roots as one or at
one after the other: drawn at random, each between the plan and the commit of others. An oracle
keeps every sample and computes every row. Prints what happened, and fails at the first difference.
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

from tests.interleaved import Race  # noqa: E402
from tests.year import Year, retention  # noqa: E402
from varve.maintenance import expiry  # noqa: E402
from varve.model.window import DAY_MS  # noqa: E402
from varve.storage.store import Store  # noqa: E402

STEPS = 19
"""Steps of a round: as many as they are drawn from."""
PROGRESS = 25
KEPT = retention(6, 8, 10, 12, 13, debug=(1.5, 3, 4), pods=(1.1, 1.2, 1.3, 1.4, 1.5))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    # Drivers come by chance here, so that a repair may wait for long: none may be given up.
    expiry.LEAST_PATIENCE_MS = 1_000 * DAY_MS
    for seed in range(args.seed, args.seed + args.runs):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            cold = Store(f"{folder}/cold")
            year = Year(f"{folder}/hot", KEPT, seed, colder=cold)
            run = Race(year, random.Random(seed), Path(folder))
            print(f"seed {seed}: {args.rounds} rounds of {STEPS} steps", flush=True)
            for done in range(1, args.rounds + 1):
                run.go(STEPS)
                if not done % PROGRESS:
                    print(f"  {done} rounds, {time.perf_counter() - begun:.0f} s", flush=True)
            run.end()
            compared = run.year.check()
            print(
                f"  rows as the oracle has them: {sum(compared.values()):,}; files moved:"
                f" {run.moved:,}; backups restored: {run.restored}; conflicts: {run.conflicts};"
                f" of {len(year.series)} series trimmed: {run.trimmed}, samples of them judged"
                f" again: {run.refused};"
                f" {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
