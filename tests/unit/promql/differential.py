"""The engine against the oracle of naive.py, on random data and random queries.

Everything follows from a seed: test_differential.py runs a few thousand queries with every test
run, `make diff-promql` as many as it is told to.
"""

import math
import traceback

import numpy as np

from tests.unit.promql.naive import STALE, Failure, Naive, Unsure
from tests.unit.promql.naive_histograms import Histogram
from tests.unit.promql.random_queries import SPAN_MS, Generator, random_data, seeded
from varve.model.staleness import STALE_NAN
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram
from varve.promql.syntax.ast import Subquery
from varve.promql.syntax.parser import parse
from varve.promql.syntax.tree import walk
from varve.promql.testing import MemoryStorage

QUERIES_PER_DATA_SET = 50


def differences(seed, count, used, options=None):
    """Runs `count` queries; yields a text for each whose answers differ, and counts into `used`."""
    r = seeded(seed)
    generator = Generator(r, used)
    done = 0
    while done < count:
        data = random_data(r)
        naive, engine = Naive(data), engine_over(data, options)
        for _ in range(min(QUERIES_PER_DATA_SET, count - done)):
            done += 1
            start = r.randrange(-100_000, SPAN_MS)
            step = r.choice((1_000, 15_000, 17_000, 12_345, 60_000, 240_000))
            end = start + step * r.choice((0, 1, 2, 5, 5, 17))
            query = generator.query()
            if r.random() < 0.1:
                unlike = compare(naive, engine, query, start, start, 0)
            else:
                unlike = compare(naive, engine, query, start, end, step)
            if unlike is not None:
                yield f"{query} from {start} to {end} step {step}: {unlike}"


def engine_over(data, options=None):
    return Engine(
        MemoryStorage.of(
            {labels: [(t, stored(v), 0) for t, v in points] for labels, points in data.items()}
        ),
        options,
    )


def stored(value):
    """As the storage holds what the oracle's data has."""
    if value is STALE:
        return STALE_NAN
    if not isinstance(value, Histogram):
        return value
    return FloatHistogram(
        CUSTOM_BUCKETS if value.bounds else value.schema,
        value.count,
        value.sum,
        0.0 if value.bounds else value.zero,
        value.zero_count,
        dict(value.positive),
        dict(value.negative),
        value.bounds or (),
    )


def compare(naive, engine, query, start, end, step):
    """What is different between both answers, or None. step 0 is an instant query."""
    try:
        return _compare(naive, engine, query, start, end, step)
    except Unsure:
        return None


def _compare(naive, engine, query, start, end, step):
    expr = parse(query)
    if step:
        expected = outcome(lambda: naive.range(expr, start, end, step))
        found = outcome(lambda: by_series(engine.range(query, start, end, step)))
    else:
        expected = outcome(lambda: at_once(naive.instant(expr, start), start))
        found = outcome(lambda: by_series(engine.instant(query, start)))
    if isinstance(found, str) and any(isinstance(node, Subquery) for node in walk(expr)):
        # The engine fails if a subquery does at any of its steps, seen through a window or not.
        return None
    if isinstance(expected, str) or isinstance(found, str):
        both = isinstance(expected, str) and isinstance(found, str)
        return None if both else f"{expected}; {found}"
    for side in (expected, found):
        if "crash" in side:
            return side["crash"]
    return difference(expected, found)


def outcome(run):
    try:
        return run()
    except (Failure, QueryError) as error:
        return f"error: {error}"
    except Unsure:
        raise
    except Exception:  # noqa: BLE001 - of either side: neither may raise anything else
        return {"crash": traceback.format_exc(limit=-3)}


def at_once(value, t):
    """{labels: {t: value}} of the oracle's instant query."""
    if isinstance(value, float):
        return {(): {t: value}}
    return {sample.labels: {t: sample.value} for sample in value}


def by_series(result):
    """{labels: {t: value}} of an answer."""
    times = result.times.tolist()
    if isinstance(result.value, float):
        return {(): {times[0]: result.value}}
    matrix = result.value
    labels = matrix.labels.labels()
    return {
        labels[row]: {
            times[s]: sample(matrix, row, s) for s in np.flatnonzero(matrix.present[row]).tolist()
        }
        for row in result.order.tolist()
    }


def sample(matrix, row, step):
    if matrix.histograms is not None and matrix.histograms[row, step] is not None:
        return matrix.histograms[row, step]
    return float(matrix.values[row, step])


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


def close(a, b):
    if isinstance(a, Histogram) or isinstance(b, FloatHistogram):
        return alike(a, b)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= 1e-9 * max(1e-6, abs(a), abs(b))


def alike(a, b):
    """Whether the oracle's histogram and the engine's are the same."""
    if not (isinstance(a, Histogram) and isinstance(b, FloatHistogram)):
        return False
    sides = ((dict(a.positive), b.positive), (dict(a.negative), b.negative))
    return (
        b.is_custom == (a.bounds is not None)
        and (a.bounds or ()) == b.custom_values
        and (b.is_custom or a.schema == b.schema)
        and all(
            close(x, y)
            for x, y in ((a.count, b.count), (a.sum, b.sum), (a.zero_count, b.zero_count))
        )
        and all(
            close(mine.get(i, 0.0), theirs.get(i, 0.0))
            for mine, theirs in sides
            for i in mine.keys() | theirs.keys()
        )
    )
