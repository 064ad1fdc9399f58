"""Texts meant to break the PromQL engine, for minutes: each gives an answer or an error in time.

    python tests/benchmarks/fuzz_promql.py [--minutes 10] [--seed N] [--processes 2] [--shared DIR]

Mutated queries, garbage, nesting and extreme numbers, over a small dataset. Prints each text that
led to anything but an answer or an error of ours, took over its bound of CPU or memory, or whose
parse error lies outside of it, and exits 1 if there was one. A seed gives each process the same
texts again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

import argparse
import faulthandler
import random
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.unit.promql.fuzzing import BOUND_S, Fuzzer, Judge, corpus, seeded
from varve.promql.kernels import warm_up

ROUND_S = 20.0
SHOWN = 2000
TEXTS_A_DATA_SET = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    args = parser.parse_args()
    seeds = corpus(args.shared)
    print(f"seed {args.seed}, {len(seeds):,} queries to mutate", flush=True)
    ends = time.monotonic() + args.minutes * 60
    kinds: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    slowest, peak, number = 0.0, 0, 0
    with ProcessPoolExecutor(args.processes, initializer=warm_up) as pool:
        while (left := ends - time.monotonic()) > 0:
            rounds = [
                pool.submit(run_round, f"{args.seed}/{number + i}", seeds, min(ROUND_S, left))
                for i in range(args.processes)
            ]
            number += args.processes
            for part in rounds:
                found_kinds, found, slow, memory = part.result()
                kinds.update(found_kinds)
                slowest, peak = max(slowest, slow), max(peak, memory)
                wrong += found
                for query, why in found:
                    print(f"WRONG {query[:SHOWN]!r} ({len(query):,} characters)\n  {why}")
            told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
            print(f"{kinds.total():,} texts: {told}; {len(wrong)} wrong", flush=True)
    print(f"slowest {slowest:.2f} s of CPU (bound {BOUND_S:.0f}); peak memory {peak >> 20} MiB")
    return 1 if wrong else 0


def run_round(
    seed: str, seeds: list[str], seconds: float
) -> tuple[Counter[str], list[tuple[str, str]], float, int]:
    """Kinds of outcomes, texts that went wrong, CPU of the slowest one, peak memory in bytes."""
    faulthandler.dump_traceback_later(seconds + 120, exit=True)  # should a kernel never return
    r = seeded(seed)
    fuzzer = Fuzzer(r, seeds)
    kinds: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    slowest, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        judge = Judge(r)
        for _ in range(TEXTS_A_DATA_SET):
            query = fuzzer.text()
            began = time.process_time()
            why = judge.wrong(query)
            slowest = max(slowest, time.process_time() - began)
            if why is not None:
                wrong.append((query, why))
            if time.monotonic() > ends:
                break
        kinds.update(judge.kinds)
    faulthandler.cancel_dump_traceback_later()
    return kinds, wrong, slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    sys.exit(main())
