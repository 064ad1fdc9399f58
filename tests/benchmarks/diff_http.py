"""Requests as clients make them, our HTTP API's answers against those of the installed Prometheus.

    python tests/benchmarks/diff_http.py [--requests 1000] [--seed N]

Some hundred at a time have samples of their own, which both servers hold. Prints each request whose
answers differ in status, errorType, keys or values, and how often an excepted difference was met:
they are listed, with reasons, in http_differences.py and answers.py of tests/integration/promql.
Exits 1 if there was another, 2 if there is no Prometheus. A seed and a number of requests give the
same run again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.beside_prometheus import arguments
from tests.integration.promql import http_clients
from tests.integration.promql.http_differences import as_today, difference, reason_to_differ
from tests.integration.promql.same_data import both_servers

REQUESTS_A_DATA_SET = 250


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000)
    args = arguments(parser)
    counts: Counter[str] = Counter()
    for start in range(0, args.requests, REQUESTS_A_DATA_SET):
        r = random.Random(f"{args.seed}/{start}")
        counts += compared(r, min(REQUESTS_A_DATA_SET, args.requests - start))
        done = min(start + REQUESTS_A_DATA_SET, args.requests)
        print(f"{done:,}: {counts['DIFFERENT']} different", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{count:>7,} {name}")
    return 1 if counts["DIFFERENT"] else 0


def compared(r: random.Random, count: int) -> Counter[str]:
    """Makes so many requests about one data set, and counts how they came out."""
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder, both_servers(Path(folder), r) as (oracle, ours):
        for _ in range(count):
            sent = http_clients.request(r)
            theirs, answer = sent.to(oracle), as_today(sent).to(ours)
            unlike = difference(sent, theirs, answer)
            reason = reason_to_differ(sent, theirs, answer)
            if unlike is None:
                counts[f"{sent.client}: the same, {theirs.status_code}"] += 1
            elif reason is not None:
                counts[f"excepted: {reason}"] += 1
            else:
                print(f"DIFFERENT {sent}: {unlike}", flush=True)
                counts["DIFFERENT"] += 1
    return counts


if __name__ == "__main__":
    sys.exit(main())
