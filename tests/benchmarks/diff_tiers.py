"""Asks random queries of rollups, and compares with the same samples in memory.

    python tests/benchmarks/diff_tiers.py [--queries 10000] [--seed 1] [--worlds 1]

So many queries for each function and tier, spread over worlds of each stage: all closed, samples
past the frontier, late ones not yet repaired, repaired in fine tiers alone, samples expired. Prints
how many answers came from rows, were approximate within their bound, or were errors that say what
to ask; exits 1 at the first that is none of these. With --far each is also asked under an
expression around it, and again with executors in this process: the bytes must be the same.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from random import Random

from tests.tables import QUERY
from tests.unit.query.far_queries import SHAPES, InProcess, check_far
from tests.unit.query.tier_queries import FORCED, FUNCTION_NAMES, STAGES, build, check, question
from varve.promql.kernels import warm_up
from varve.query import tier_choice
from varve.query.tables import Tables

KINDS = ("exact", "approximate", "partial", "refused", "raw")


Found = Counter[tuple[str, str, str]]
"""Answers by tier, stage and kind."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000, help="for each function and tier")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--far", action="store_true", help="compare with executors, too")
    parser.add_argument("--worlds", type=int, default=2, help="of each stage")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    found: Found = Counter()
    started = time.monotonic()
    each = max(1, args.queries // (args.worlds * len(STAGES)))
    worlds = [(stage, number) for number in range(args.worlds) for stage in STAGES]
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), warm_up) as pool:
        asked = {
            pool.submit(ask_world, args.seed, stage, number, each, far=args.far): (stage, number)
            for stage, number in worlds
        }
        for future in as_completed(asked):
            try:
                found += future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            stage, number = asked[future]
            print(f"{stage}, world {number}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{'tier':8}{'stage':15}" + "".join(f"{kind:>13}" for kind in KINDS))
    for tier in FORCED:
        for stage in STAGES:
            row = [found[(tier or "chosen", stage, kind)] for kind in KINDS]
            print(f"{tier or 'chosen':8}{stage:15}" + "".join(f"{n:13,}" for n in row))
    print(f"{found.total():,} queries, all as docs/tiers.md says")
    return 0


def ask_world(seed: int, stage: str, number: int, each: int, *, far: bool) -> Found:
    """Asks so many queries for each function and tier in one world."""
    # No selection is small enough to be read from samples for being cheap.
    tier_choice.CHEAP_SAMPLES = 0
    found: Found = Counter()
    rng = Random(f"{seed} {number} {stage}")
    with tempfile.TemporaryDirectory(prefix="varve-diff-") as folder:
        world = build(folder, stage, rng)
        tables = Tables(world.tables.store, [QUERY], 256 << 20)
        executors = InProcess(world.tables.store)
        for tier in FORCED:
            for name in FUNCTION_NAMES:
                for _ in range(each):
                    asked = question(rng, name, tier, stage)
                    expression = rng.choice(SHAPES).format(asked.text)
                    try:
                        kind = check(world, tables.view, asked)
                        if far:
                            check_far(tables.view, asked, expression, executors)
                    except Exception:
                        print(f"{stage}: {asked.text}\n{expression}\n{asked}")
                        raise
                    found[(tier or "chosen", stage, kind)] += 1
        tables.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
