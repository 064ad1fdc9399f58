"""Random queries on imported blocks, answered as by the Prometheus whose blocks they are.

    python tests/benchmarks/diff_import.py [--queries 1000] [--days 30] [--every 60] [--seed N]

promtool makes the blocks of a history of counters, gauges and histograms. They are imported,
ingested and rolled up, and a Prometheus serves the same blocks. Prints each query whose answers
differ. Exits 1 if there was one, 2 if there is no Prometheus. A seed and numbers give the same run
again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.benchmarks.beside_prometheus import arguments
from tests.integration.promql.answers import difference
from tests.integration.promql.imported_blocks import imported, random_question


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--every", type=int, default=60, help="seconds between samples")
    args = arguments(parser)
    r = random.Random(args.seed)
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        imported(Path(folder), r, days=args.days, every_s=args.every) as (oracle, ours),
    ):
        print(f"imported after {time.monotonic() - begun:.0f} s", flush=True)
        for _ in range(args.queries):
            query, path, params = random_question(r, args.days)
            expected, found = (
                client.post(path, data={"query": query, **params}).json()
                for client in (oracle, ours)
            )
            unlike = difference(query, expected, found)
            if unlike is not None:
                print(f"DIFFERENT {query} by {path} {params}: {unlike}", flush=True)
                counts["DIFFERENT"] += 1
            elif expected["status"] == "error":
                counts["the same error"] += 1
            else:
                counts["the same answer" if expected["data"]["result"] else "both empty"] += 1
    for name, count in counts.most_common():
        print(f"{count:>7,} {name}")
    return 1 if counts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
