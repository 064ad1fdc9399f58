"""The SQL views in DuckDB against plain Python over what was written."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from itertools import pairwise

import pytest

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.model.window import HOUR_MS, TIERS, window_end
from varve.query.sql import connect
from varve.rollups import sketch

START = 1_795_338_000_000
SERIES = [
    define("load", {"host": f"h{i}", "odd": "ü 'quoted'"}, metric_type="gauge") for i in range(6)
]


def random_samples(seed: int) -> list[tuple[int, int, float | None]]:
    rng = random.Random(seed)
    special = [math.nan, math.inf, -math.inf, 0.0, None, 1e300, -1e-300]
    samples = []
    for i, series in enumerate(SERIES):
        for k in range(900):
            # On and around the ends of windows, with gaps and copies.
            ts = START + k * 10_000 + rng.choice((0, 0, 0, 1, -1, 4_321))
            if rng.random() < 0.1:
                continue
            value = rng.gauss(0, 10) * 10 ** rng.randint(-3, 3)
            if i < 2 and rng.random() < 0.05:
                value = special[rng.randrange(len(special))]
            samples.append((series.series_id, ts, value))
            if rng.random() < 0.05:
                samples.append((series.series_id, ts, rng.choice([value, 1.0, None])))
    return samples


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("with space")))
    tables.define(SERIES, START)
    tables.define(SERIES[:3], START + HOUR_MS)  # later rows only move last_seen
    samples = random_samples(7)
    late = samples[::11]
    tables.put([s for s in samples if s not in late], complete_ms=START + 2 * HOUR_MS)
    tables.roll_up()
    tables.put(late, complete_ms=START + 2 * HOUR_MS + 1)
    tables.roll_up()
    return tables


@pytest.fixture(scope="module")
def expected():
    best = {}
    for series_id, ts, value in random_samples(7):
        held = best.get((series_id, ts), ...)
        if held is ... or rank(value) > rank(held):
            best[series_id, ts] = value
    return best


def rank(value):
    if value is None:
        return (0, 0.0)
    return (1, 0.0) if math.isnan(value) else (2, value)


def ask(tables, query):
    result = connect(tables.store, query).execute(query)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def same(left, right):
    if left is None or right is None:
        return left is right
    return left == right or (math.isnan(left) and math.isnan(right))


def test_raw_has_each_sample_once_and_the_greatest_of_its_copies(tables, expected):
    rows = ask(tables, "SELECT series_id, ts, value, epoch_ms(timestamp) AS at FROM raw")

    got = {(row["series_id"], row["ts"]): row["value"] for row in rows}
    assert len(rows) == len(got) == len(expected)
    assert all(same(got[key], value) for key, value in expected.items())
    assert all(row["at"] == row["ts"] for row in rows)


def test_raw_names_metric_and_labels_of_each_series(tables):
    rows = ask(tables, "SELECT DISTINCT metric, tags['host'] AS host, tags['odd'] AS odd FROM raw")

    assert sorted(row["host"] for row in rows) == [f"h{i}" for i in range(6)]
    assert {(row["metric"], row["odd"]) for row in rows} == {("load", "ü 'quoted'")}


# The sketch has its own bound of error, the rest of a window equals the samples' aggregate.
@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_a_window_equals_the_aggregate_of_its_samples(tables, expected, tier):
    windows = defaultdict(list)
    for (series_id, ts), value in sorted(expected.items()):
        if value is not None:
            windows[series_id, window_end(ts, tier.width_ms)].append(value)
    rows = ask(tables, f"SELECT *, epoch_ms(window_start) AS start_ms FROM metrics_{tier.name}")
    rows = {(row["series_id"], row["window_end_ms"]): row for row in rows if row["count"]}
    frontier = START + 2 * HOUR_MS
    closed = {key for key in windows if key[1] <= frontier // tier.width_ms * tier.width_ms}

    assert closed == set(rows)
    for key in closed:
        check(rows[key], windows[key], key[1] - tier.width_ms)


def check(row, values, start_ms):
    numbers = [v for v in values if not math.isnan(v)]
    assert row["start_ms"] == start_ms
    assert row["count"] == len(values)
    assert row["nan_count"] == len(values) - len(numbers)
    assert same(row["first"], values[0])
    assert same(row["last"], values[-1])
    assert same(row["min"], min(numbers, default=math.nan))
    drops = [before for before, after in pairwise(values) if after < before]
    assert row["resets"] == len(drops)
    check_growth(row, values, drops)
    if len(numbers) < len(values):
        assert all(math.isnan(row[name]) for name in ("sum", "avg", "max", "stddev"))
    else:
        assert row["max"] == max(values)
        check_moments(row, values)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        check_quantile(row[name], sorted(numbers), q)


def check_growth(row, values, drops):
    if not all(map(math.isfinite, values)):
        assert not math.isfinite(row["increase"]) or math.isfinite(values[0] + values[-1])
        return
    size = math.fsum(map(abs, values))
    assert abs(row["reset_correction"] - math.fsum(drops)) <= 1e-12 * size
    grown = values[-1] - values[0] + math.fsum(drops)
    assert abs(row["increase"] - grown) <= 1e-12 * size


def check_moments(row, values):
    if any(map(math.isinf, values)):
        assert not math.isfinite(row["sum"])
        assert not math.isfinite(row["avg"])
        return
    size = math.fsum(map(abs, values))
    assert abs(row["sum"] - math.fsum(values)) <= 1e-12 * size
    mean = math.fsum(values) / len(values)
    assert abs(row["avg"] - mean) <= 1e-12 * size / len(values)
    if size < 1e150:  # beyond, squares leave the range of a double
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        spread = math.fsum(v * v for v in values) / len(values)
        assert abs(row["stddev"] ** 2 - variance) <= 1e-9 * spread


def check_quantile(got, numbers, q):
    if not numbers:
        assert math.isnan(got)
        return
    position = q * (len(numbers) - 1)
    low, high = numbers[math.floor(position)], numbers[math.ceil(position)]
    if math.isinf(low) or math.isinf(high):
        return
    bound = sketch.GROWTH - 1
    reach = bound * max(abs(low), abs(high)) / 2 + 1e-12
    assert low - reach <= got <= high + reach


def test_windows_of_1m_equal_sql_over_raw(tables):
    """The promise of docs/sql.md, as a user would check it."""
    query = """
        WITH direct AS (
          SELECT series_id, (ts + 59999) // 60000 * 60000 AS window_end_ms,
            count(value) AS count, min(value) AS min, max(value) AS max, sum(value) AS sum,
            sum(abs(value)) AS size, arg_min(value, ts) AS first, arg_max(value, ts) AS last
          FROM raw GROUP BY ALL
        )
        SELECT
          count(*) AS windows,
          count_if(direct.count IS DISTINCT FROM m.count) AS counts,
          count_if(direct.min IS DISTINCT FROM m.min) AS mins,
          count_if(direct.max IS DISTINCT FROM m.max) AS maxs,
          count_if(direct.first IS DISTINCT FROM m.first) AS firsts,
          count_if(direct.last IS DISTINCT FROM m.last) AS lasts,
          count_if(isfinite(direct.sum) AND abs(direct.sum - m.sum) > 1e-12 * direct.size) AS sums
        FROM direct FULL JOIN metrics_1m AS m USING (series_id, window_end_ms)
        WHERE window_end_ms <= (SELECT max(window_end_ms) FROM metrics_1m)
    """

    (row,) = ask(tables, query)

    assert row.pop("windows") >= len(SERIES) * 120
    assert row == dict.fromkeys(row, 0)
