"""Refreshes panels while their tables change, with kept steps and without: the bytes are the same.

    python tests/benchmarks/diff_steps.py [--interleavings 10000] [--seed 1]

An interleaving is some events, drawn from new samples, late ones, new series, deletion, compaction,
closing and repairing of tiers, each followed by a refresh of a panel, of samples or of rows of
tiers. Prints how many steps were kept, then the same of panels that are refreshed as time goes
on, without late samples; exits 1 at the first answer that differs, and if under 90 % of those were
kept.
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

from tests.unit.query.step_worlds import EXPRESSIONS, World, change, steady
from varve.model.window import RAW
from varve.promql.kernels import warm_up
from varve.query import tier_choice
from varve.query.memory import MemoryBudget
from varve.query.step_cache import StepCache

# Interleavings of one world: it grows with each.
_A_WORLD = 10


Sums = Counter[str]
"""Steps that were asked for, those of them that were kept, and answers."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interleavings", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    sums: Sums = Counter()
    started, done = time.monotonic(), 0
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), start_worker) as pool:
        firsts = range(0, args.interleavings, _A_WORLD)
        under_way = [
            pool.submit(interleave, args.seed, n, min(_A_WORLD, args.interleavings - n))
            for n in firsts
        ]
        for future in as_completed(under_way):
            try:
                sums += future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            done += 1
            if not done % 10:
                took = time.monotonic() - started
                print(f"{done * _A_WORLD:,} interleavings: {took:.0f} s", flush=True)
        steady_share = pool.submit(of_steady)
        shares = sums["cached"] / max(1, sums["asked"]), steady_share.result()
    answers = sums["answers"]
    print(f"{args.interleavings:,} interleavings, {answers:,} answers, all as if nothing were kept")
    print(f"{sums['cached']:,} of {sums['asked']:,} steps were kept: {shares[0]:.1%}")
    print(f"without late samples: {shares[1]:.1%}")
    return 0 if shares[1] >= 0.9 else 1


def start_worker() -> None:
    warm_up()
    # No selection is small enough to be read from samples for being cheap.
    tier_choice.CHEAP_SAMPLES = 0
    tier_choice._WORTH = 100.0


def interleave(seed: int, first: int, count: int) -> Sums:
    """Some interleavings in a world of their own."""
    rng = Random(f"{seed} {first}")
    with tempfile.TemporaryDirectory(prefix="varve-diff-") as folder:
        world = World(folder)
        minute = 40
        for number in range(first, first + count):
            world.cache = StepCache(1 << 20, MemoryBudget(1 << 30))
            panel, tier = rng.choice(EXPRESSIONS), rng.choice((None, None, RAW))
            world.refresh(panel, 60, tier, cold=False)
            for _ in range(rng.randrange(2, 7)):
                minute = change(world, rng, minute)
                try:
                    world.refresh(panel, rng.choice((60, 60, 60, 45)), tier, cold=False)
                except Exception:
                    print(f"seed {seed}, interleaving {number}: {panel} {tier}", flush=True)
                    raise
        world.followed.close()
    return Counter(asked=world.asked, cached=world.cached, answers=world.tiers.total())


def of_steady() -> float:
    """The share of steps that are kept without late samples."""
    with tempfile.TemporaryDirectory(prefix="varve-diff-") as folder:
        world = World(folder)
        steady(world, EXPRESSIONS, 120)
        world.followed.close()
    return world.cached / world.asked


if __name__ == "__main__":
    sys.exit(main())
