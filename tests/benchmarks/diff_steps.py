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
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.unit.query.step_worlds import EXPRESSIONS, World, change, steady
from varve.model.window import RAW
from varve.promql.kernels import warm_up
from varve.query import tier_choice
from varve.query.memory import MemoryBudget
from varve.query.step_cache import StepCache

# Interleavings of one world: it grows with each.
_A_WORLD = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interleavings", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warm_up()
    # No selection is small enough to be read from samples for being cheap.
    tier_choice.CHEAP_SAMPLES = 0
    tier_choice._WORTH = 100.0
    asked = cached = answers = 0
    started = time.monotonic()
    for first in range(0, args.interleavings, _A_WORLD):
        rng = Random(f"{args.seed} {first}")
        with tempfile.TemporaryDirectory(prefix="varve-diff-") as folder:
            world = World(str(Path(folder)))
            minute = 40
            for number in range(first, min(first + _A_WORLD, args.interleavings)):
                world.cache = StepCache(1 << 20, MemoryBudget(1 << 30))
                panel, tier = rng.choice(EXPRESSIONS), rng.choice((None, None, RAW))
                world.refresh(panel, 60, tier, cold=False)
                for _ in range(rng.randrange(2, 7)):
                    minute = change(world, rng, minute)
                    try:
                        world.refresh(panel, rng.choice((60, 60, 60, 45)), tier, cold=False)
                    except Exception:
                        print(f"seed {args.seed}, interleaving {number}: {panel} {tier}")
                        raise
            world.followed.close()
            asked, cached = asked + world.asked, cached + world.cached
            answers += world.tiers.total()
        if first // _A_WORLD % 10 == 0:
            took = time.monotonic() - started
            print(f"{first + _A_WORLD:,} interleavings: {took:.0f} s", flush=True)
    share = cached / max(1, asked)
    print(f"{args.interleavings:,} interleavings, {answers:,} answers, all as if nothing were kept")
    print(f"{cached:,} of {asked:,} steps were kept: {share:.1%}")
    with tempfile.TemporaryDirectory(prefix="varve-diff-") as folder:
        world = World(str(Path(folder)))
        steady(world, EXPRESSIONS, 120)
        world.followed.close()
    share = world.cached / world.asked
    print(f"without late samples {world.cached:,} of {world.asked:,}: {share:.1%}")
    return 0 if share >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
