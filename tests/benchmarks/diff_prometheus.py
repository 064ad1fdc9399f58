"""Random queries on random data, the engine's answers against those of the installed Prometheus.

    python tests/benchmarks/diff_prometheus.py [--queries 20000] [--seed N]

Each data set is written to a Prometheus of its own, which is asked by HTTP. Prints each query whose
answers differ and how often a known difference was met. Known ones are listed in answers.py of
tests/integration/promql, and what is never asked in shared_queries.py. Exits 1 if there was another
difference, 2 if there is no Prometheus. A seed and a number of queries give the same run again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.beside_prometheus import arguments
from tests.integration.promql.answers import Answer, as_today, difference, known_difference
from tests.integration.promql.prometheus import prometheus
from tests.integration.promql.shared_queries import Data, Queries, random_data, random_request
from varve.model.staleness import STALE_NAN
from varve.promql import result_json
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.kernels import warm_up
from varve.promql.testing import MemoryStorage

QUERIES_A_DATA_SET = 500
PROGRESS_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=20_000)
    args = arguments(parser)
    warm_up()
    counts: Counter[str] = Counter()
    said = time.monotonic()
    for start in range(0, args.queries, QUERIES_A_DATA_SET):
        r = random.Random(f"{args.seed}/{start}")
        counts += compared(r, min(QUERIES_A_DATA_SET, args.queries - start))
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            print(f"{start + QUERIES_A_DATA_SET:,}: {counts['DIFFERENT']} different", flush=True)
    for name, count in counts.most_common():
        print(f"{count:>9,} {name}")
    return 1 if counts["DIFFERENT"] else 0


def compared(r: random.Random, count: int) -> Counter[str]:
    """Compares so many queries on one data set, and counts how they came out."""
    data, counts = random_data(r), Counter[str]()
    engine, queries = engine_over(data), Queries(r)
    with tempfile.TemporaryDirectory() as folder, prometheus(Path(folder), data) as oracle:
        for _ in range(count):
            query, (path, params) = queries.next(), random_request(r)
            expected = oracle.post(path, data={"query": query, **params}).json()
            found = answer(engine, as_today(query), params)
            unlike = difference(query, expected, found)
            known = known_difference(query, expected, found)
            if unlike is not None and known is None:
                print(f"DIFFERENT {query} by {path} {params}: {unlike}", flush=True)
                counts["DIFFERENT"] += 1
            elif unlike is not None and known is not None:
                counts[f"known: {known.reason}"] += 1
            elif expected["status"] == "error":
                counts["the same error"] += 1
            else:
                counts["the same answer" if expected["data"]["result"] else "both empty"] += 1
    return counts


def engine_over(data: Data) -> Engine:
    return Engine(
        MemoryStorage.of(
            {
                labels: [(t, STALE_NAN if value is None else value, 0) for t, value in points]
                for labels, points in data.items()
            }
        )
    )


def answer(engine: Engine, query: str, params: dict[str, float]) -> Answer:
    """The body that the HTTP API would answer with."""
    ms: dict[str, Any] = {name: round(value * 1000) for name, value in params.items()}
    try:
        if "time" in ms:
            result = engine.instant(query, ms["time"])
        else:
            result = engine.range(query, ms["start"], ms["end"], ms["step"])
    except QueryError as error:
        return {"status": "error", "errorType": error.error_type, "error": str(error)}
    return {"status": "success", "data": json.loads(result_json.to_json(result))}


if __name__ == "__main__":
    sys.exit(main())
