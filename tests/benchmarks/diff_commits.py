"""Asks a query service while every job changes its tables each second: nothing fails, no sample is
missed or seen twice.

    python tests/benchmarks/diff_commits.py [--queries 10000] [--connections 4] [--seed 1]

Appending (some samples late, some twice), rolling up and repairing, compaction, moves over three
roots, expiry with trimming of series, and deletions each run in a process of their own; some hours
of the tables' time go by in a second. Clients ask for samples, counts, functions of tiers, panels
that are refreshed, series and values of labels, what was answered before (as_of) and what another
has seen (at_least). An answer names its snapshot; an oracle that reads the log's JSON says what
that holds.
Prints what came of the questions and how often each job changed something; exits 1 at the first
answer that is wrong, that fails, or if a job has died.

With --faults N a reader in this process is asked instead, N times, while any call to its storage
may fail (503, 404, no answer) or take long; two polls after the last fault it has to answer as a
process that starts then, from memory, from files and from kept steps.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

from tests.asked import Tally, ask_all  # noqa: E402
from tests.benchmarks.bench_first_query import service  # noqa: E402
from tests.changing import Changing, Plan  # noqa: E402
from tests.unit.query.faulty_worlds import FaultyWorld  # noqa: E402
from varve.promql.kernels import warm_up  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=60, help="at most")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--series", type=int, default=120)
    parser.add_argument("--each", type=int, default=60, help="seconds from sample to sample")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds between two runs of a job")
    parser.add_argument("--faults", type=int, default=0, help="readers whose storage fails")
    args = parser.parse_args()
    if args.faults:
        return amid_faults(args.faults, args.seed)
    with tempfile.TemporaryDirectory(prefix="varve-commits-") as folder:
        begun = time.monotonic()
        changing = Changing(Path(folder), Plan(args.seed, args.series, args.each * 1_000))
        print(f"{changing.hours.value} hours of history: {time.monotonic() - begun:.0f} s")
        settings = {
            "VARVE_STORAGE__WARM_ROOT": f"{folder}/warm",
            "VARVE_STORAGE__COLD_ROOT": f"{folder}/cold",
            "VARVE_QUERY__CACHE_MB": "16",
            "VARVE_QUERY__POLL_MS": "50",
            "VARVE_QUERY__SQL": "false",
        }
        with service(Path(folder), Path(folder) / "hot", settings) as (url, _):
            before = changing.hours.value
            changing.start(args.pace)
            until_s = time.monotonic() + 60 * args.minutes
            tally = ask_all(
                url.removeprefix("http://"),
                changing,
                queries=args.queries,
                connections=args.connections,
                seed=args.seed,
                each_s=20,
                goes_on=lambda: time.monotonic() < until_s,
            )
            changing.stop()
        told(tally)
        hours = changing.hours.value - before
        done = ", ".join(f"{job} {count.value:,}" for job, count in changing.done.items())
        print(f"{hours} hours of the tables' time; changes: {done}")
    return 1 if tally.failures else 0


def amid_faults(readers: int, seed: int) -> int:
    warm_up()
    met: Counter[str] = Counter()
    answered = failed = 0
    for number in range(seed, seed + readers):
        with tempfile.TemporaryDirectory(prefix="varve-faults-") as folder:
            world = FaultyWorld(Path(folder), number)
            try:
                world.go(12)
            except BaseException:
                print(f"seed {number}")
                raise
            world.close()
        met += world.faults.met
        answered, failed = answered + world.answered, failed + world.failed
    faults = ", ".join(f"{count:,} {kind}" for kind, count in sorted(met.items()))
    print(f"{readers} readers of a storage that failed: {faults}")
    print(f"meanwhile {answered:,} answers, all right, and {failed:,} errors; two polls later none")
    return 0


def told(tally: Tally) -> None:
    """Prints what came of the questions."""
    for (kind, outcome), count in sorted(tally.found.items()):
        print(f"{kind:12}{outcome:18}{count:8,}")
    print("\n".join(tally.failures))
    cuts = quantiles(tally.seconds, n=100)
    print(
        f"{len(tally.seconds):,} answers, {len(tally.failures)} wrong;"
        f" p50 {cuts[49] * 1_000:.1f}, p99 {cuts[98] * 1_000:.1f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
