"""The engine against the oracle of naive.py, on random data and random queries.

VARVE_DIFFERENTIAL_QUERIES=100000 runs that many and prints how often each function was used.
"""

import math
import os
from collections import Counter

import numpy as np
import pytest

from tests.unit.promql.naive import STALE, Failure, Naive
from tests.unit.promql.random_queries import ALL, SPAN_MS, Generator, random_data, seeded
from varve.model.staleness import STALE_NAN
from varve.promql.ast import Subquery
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.memory import MemoryStorage
from varve.promql.parser import parse
from varve.promql.tree import walk

QUERIES = int(os.environ.get("VARVE_DIFFERENTIAL_QUERIES", "3000"))
QUERIES_PER_DATA_SET = 50
PARTS = 10
LEAST_USES = 200 // PARTS


def engine_over(data):
    return Engine(
        MemoryStorage.of(
            {
                labels: [(t, STALE_NAN if v is STALE else v, 0) for t, v in points]
                for labels, points in data.items()
            }
        )
    )


def by_series(result):
    """{labels: {t: value}} of a range query."""
    matrix, times = result.value, result.times.tolist()
    labels = matrix.labels.labels()
    return {
        labels[row]: {
            times[s]: float(matrix.values[row, s])
            for s in np.flatnonzero(matrix.present[row]).tolist()
        }
        for row in result.order.tolist()
    }


def close(a, b):
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= 1e-9 * max(1e-6, abs(a), abs(b))


def difference(expected, found):
    """What is different, or None."""
    if expected.keys() != found.keys():
        return f"series {sorted(expected.keys() ^ found.keys())}"
    for labels, points in expected.items():
        if points.keys() != found[labels].keys():
            return f"{labels} at {sorted(points.keys() ^ found[labels].keys())}"
        for t, value in points.items():
            if not close(value, found[labels][t]):
                return f"{labels} at {t}: expected {value}, got {found[labels][t]}"
    return None


def outcome(run):
    try:
        return run()
    except (Failure, QueryError) as error:
        return f"error: {error}"


def check(naive, engine, query, start, end, step):
    expr = parse(query)
    expected = outcome(lambda: naive.range(expr, start, end, step))
    found = outcome(lambda: by_series(engine.range(query, start, end, step)))
    where = f"{query} from {start} to {end} step {step}"
    if isinstance(found, str) and any(isinstance(node, Subquery) for node in walk(expr)):
        # The engine fails if a subquery does at any of its steps, seen through a window or not.
        return
    if isinstance(expected, str) or isinstance(found, str):
        both = isinstance(expected, str) and isinstance(found, str)
        assert both, f"{where}: {expected}; {found}"
        return
    unlike = difference(expected, found)
    assert unlike is None, f"{where}: {unlike}"


def run_many(seed, count, used):
    r = seeded(seed)
    generator = Generator(r, used)
    done = 0
    while done < count:
        data = random_data(r)
        naive, engine = Naive(data), engine_over(data)
        for _ in range(min(QUERIES_PER_DATA_SET, count - done)):
            start = r.randrange(-100_000, SPAN_MS)
            step = r.choice((1_000, 15_000, 17_000, 60_000, 240_000))
            end = start + step * r.choice((0, 1, 2, 5))
            check(naive, engine, generator.query(), start, end, step)
            done += 1


@pytest.mark.parametrize("part", range(PARTS))
def test_engine_agrees_with_the_oracle_on_random_queries(part):
    used = Counter(dict.fromkeys(ALL, 0))

    run_many(part, max(1, QUERIES // PARTS), used)

    if QUERIES >= 100_000:
        print("\n".join(f"{name:30}{used[name]:>7}" for name in sorted(used)))  # noqa: T201
        rare = {name: n for name, n in used.items() if n < LEAST_USES}
        assert not rare, f"used too rarely: {rare}"
