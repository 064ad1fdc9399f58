"""Random queries on random data, the engine's answers against those of an obvious evaluator.

    python tests/benchmarks/diff_promql.py [--queries 100000] [--seed N] [--processes 2]

Prints each query whose answers differ, how often each function and operator was used, and exits 1
if there was a difference or something was used under --least times. A seed and a number of
queries give the same run again, however many processes share it.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.unit.promql.differential import differences
from tests.unit.promql.random_queries import ALL
from varve.promql.kernels import warm_up

QUERIES_A_SLICE = 1000
SHOWN_A_SLICE = 5
PROGRESS_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--least", type=int, default=None, help="uses; default queries / 500")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    least = args.queries // 500 if args.least is None else args.least
    used = Counter(dict.fromkeys(ALL, 0))
    unlike: list[str] = []
    done, said = 0, time.monotonic()
    with ProcessPoolExecutor(args.processes, initializer=warm_up) as pool:
        slices = [
            pool.submit(run_slice, f"{args.seed}/{start}", min(QUERIES_A_SLICE, rest))
            for start in range(0, args.queries, QUERIES_A_SLICE)
            if (rest := args.queries - start)
        ]
        for part in as_completed(slices):
            count, uses, found = part.result()
            done += count
            used.update(uses)
            unlike += found
            for text in found[:SHOWN_A_SLICE]:
                print(f"DIFFERENT {text}", flush=True)
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                print(f"{done:,} of {args.queries:,}, {len(unlike)} different", flush=True)
    for name in sorted(used, key=lambda name: used[name]):
        print(f"{name:30}{used[name]:>9,}")
    rare = sorted(name for name in used if used[name] < least)
    print(f"used under {least} times: {', '.join(rare) or 'none'}")
    print(f"{done:,} queries, {len(unlike)} differences")
    return 1 if unlike or rare else 0


def run_slice(seed: str, count: int) -> tuple[int, Counter[str], list[str]]:
    """How many queries were run, what was used in them, and those that differ."""
    used = Counter(dict.fromkeys(ALL, 0))
    found = list(differences(seed, count, used))
    return count, used, found


if __name__ == "__main__":
    sys.exit(main())
