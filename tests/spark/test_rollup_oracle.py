"""The rows of every tier against plain Spark SQL and pandas over the same tables."""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest

from tests.tables import WrittenTables
from varve.model.window import DAY_MS, TIERS
from varve.rollups import sketch
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = pytest.mark.spark

START = 1_800_000_000_000 // DAY_MS * DAY_MS
# What the design's SQL would be without a kernel, one pass over the raw samples for each tier.
ORACLE = """
WITH distinct_samples AS (
  SELECT series_id, ts,
    max_by(value, struct(value IS NOT NULL, NOT coalesce(isnan(value), false), value)) AS value
  FROM samples GROUP BY series_id, ts
),
placed AS (
  SELECT *, CAST(ceil(ts / {width}) * {width} AS BIGINT) AS window_end,
    CASE WHEN NOT isnan(value) THEN value END AS number
  FROM distinct_samples
),
steps AS (
  SELECT *, lag(value) OVER (PARTITION BY series_id, window_end ORDER BY ts) AS before,
    row_number() OVER (PARTITION BY series_id, window_end ORDER BY ts DESC) AS from_end
  FROM placed WHERE value IS NOT NULL
),
valued AS (
  SELECT series_id, window_end,
    count(*) AS count,
    count_if(isnan(value)) AS nan_count,
    sum(number) AS sum,
    coalesce(min(number), double('NaN')) AS min,
    coalesce(max(number), double('NaN')) AS max,
    min(ts) AS first_ts, min_by(value, ts) AS first_value,
    max(ts) AS last_ts, max_by(value, ts) AS last_value,
    max(CASE WHEN from_end = 2 THEN ts END) AS previous_ts,
    count_if(NOT isnan(value) AND NOT isnan(before) AND value < before) AS resets,
    sum(CASE WHEN NOT isnan(value) AND NOT isnan(before) AND value < before THEN before END)
      AS reset_correction,
    count_if(before IS NOT NULL AND NOT value <=> before) AS changes,
    var_pop(number) AS variance,
    array_sort(collect_list(number)) AS numbers_sorted,
    count(number) AS numbers
  FROM steps GROUP BY series_id, window_end
),
stale AS (
  SELECT series_id, window_end, max(CASE WHEN value IS NULL THEN ts END) AS stale_ts
  FROM placed GROUP BY series_id, window_end
)
SELECT stale.series_id, stale.window_end, stale_ts, valued.* EXCEPT (series_id, window_end)
FROM stale LEFT JOIN valued USING (series_id, window_end)
ORDER BY 1, 2
"""


def random_samples() -> list[tuple[int, int, float | None]]:
    rng = random.Random(11)
    found = []
    for series in range(6):
        counter = 0.0
        for k in range(400):
            ts = START + k * 20_000 + rng.choice([0, 0, 1, -1, 7_000])
            counter = 0.0 if rng.random() < 0.01 else counter + rng.randrange(5)
            value = counter if series < 4 else rng.gauss(50, 20)
            value = rng.choices([value, math.nan, None], [96, 2, 2])[0]
            found.append((series, ts, value))
            if rng.random() < 0.03:
                found.append((series, ts, rng.choice([value, 1.0, None])))
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("oracle")))
    samples = random_samples()
    late = set(samples[::13])
    tables.put([s for s in samples if s not in late], complete_ms=START + 2 * DAY_MS)
    tables.roll_up()
    tables.put(late, complete_ms=START + 3 * DAY_MS)
    tables.roll_up()
    return tables


def rows(tables, tier):
    """Newest revision of each window, sorted."""
    frame = snapshot(tables.store, tier.table).scan(Bounds()).to_pandas()
    frame = frame.sort_values(["series_id", "window_end", "revision"])
    return frame.drop_duplicates(["series_id", "window_end"], keep="last").reset_index(drop=True)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_rows_equal_what_spark_sql_makes_of_the_raw_samples(spark, tables, tier):
    path = tables.store.uri("samples")
    spark.read.format("delta").load(path).createOrReplaceTempView("samples")

    want = spark.sql(ORACLE.format(width=tier.width_ms)).toPandas()

    got = rows(tables, tier)
    assert len(got) > 10 or tier.name == "1d"
    for name in ("series_id", "window_end", "stale_ts", "first_ts", "last_ts", "previous_ts"):
        pd.testing.assert_series_equal(got[name], want[name], check_dtype=False)
    filled = want.fillna({"count": 0, "nan_count": 0, "resets": 0, "changes": 0})
    for name in ("count", "nan_count", "resets", "changes"):
        pd.testing.assert_series_equal(got[name], filled[name], check_dtype=False)
    for name in ("min", "max", "first_value", "last_value"):
        np.testing.assert_array_equal(got[name].astype(float), want[name].astype(float), name)
    total = (got["sum"] + got["sum_error"]).to_numpy()
    np.testing.assert_allclose(total, want["sum"].fillna(0), rtol=1e-12)
    correction = want["reset_correction"].astype(float).fillna(0)
    np.testing.assert_allclose(got["reset_correction"], correction, rtol=1e-12)
    for row, expected in zip(got.to_dict("records"), want.to_dict("records"), strict=True):
        compare_spread(row, expected)


def compare_spread(row, expected):
    n = row["count"] - row["nan_count"]
    if n == 0:
        return
    mean = (row["sum"] + row["sum_error"]) / n
    variance = row["m2"] / n - (mean - row["base"]) ** 2
    assert variance == pytest.approx(expected["variance"], rel=1e-9, abs=1e-9 * (1 + mean**2))
    keys = np.array([e["key"] for e in row["sketch"]], np.int32)
    counts = np.array([e["count"] for e in row["sketch"]], np.int64)
    for q in (0, 0.5, 0.95, 1):
        exact = np.quantile(expected["numbers_sorted"], q)
        got = sketch.quantile(keys, counts, q, row["min"], row["max"])
        assert got == pytest.approx(exact, rel=1.001 * sketch.ERROR, abs=1e-12)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_rows_equal_what_pandas_makes_of_the_raw_samples(tables, tier):
    raw = snapshot(tables.store, "samples").scan(Bounds()).to_pandas(types_mapper=pd.ArrowDtype)
    value = raw["value"]
    raw["rank"] = np.where(value.isna(), 0, 1) + np.where(value.notna() & (value == value), 1, 0)  # noqa: PLR0124
    raw["number"] = value.astype("float64")
    raw = raw.sort_values(["series_id", "ts", "rank", "number"], na_position="first")
    raw = raw.drop_duplicates(["series_id", "ts"], keep="last")
    raw["window_end"] = -(-raw["ts"].astype("int64") // tier.width_ms) * tier.width_ms
    by_window = raw.groupby(["series_id", "window_end"])["number"]

    got = rows(tables, tier).set_index(["series_id", "window_end"])

    assert list(got.index) == list(by_window.min().index)
    np.testing.assert_array_equal(got["min"].astype(float), by_window.min())
    np.testing.assert_array_equal(got["max"].astype(float), by_window.max())
    total = (got["sum"] + got["sum_error"]).to_numpy()
    np.testing.assert_allclose(total, by_window.sum(), rtol=1e-12)
    np.testing.assert_array_equal(got["count"] - got["nan_count"], by_window.count())
