"""Values as integers in files that stay: every bit of every double comes back."""

from __future__ import annotations

import math

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.schema import table_schema
from varve.model.staleness import NORMAL_NAN
from varve.storage.layout import COMPACT, encode
from varve.storage.scaled_values import COLUMNS, joined, read_columns, split

SAMPLES = table_schema("samples")

any_bits = st.integers(0, 2**64 - 1).map(lambda n: float(np.array([n], np.uint64).view("f8")[0]))
odd = st.sampled_from(
    [0.0, -0.0, math.inf, -math.inf, NORMAL_NAN, 5e-324, -2.2e-308, 1.7e308, 2.0**53, -(2.0**62)]
)
decimals = st.tuples(st.integers(-(2**55), 2**55), st.sampled_from([1, 10, 1000, 10**6])).map(
    lambda pair: pair[0] / pair[1]
)
small = st.integers(0, 50).map(lambda n: n / 100)
counter = st.lists(st.integers(0, 1000), min_size=1, max_size=80).map(
    lambda steps: np.cumsum(steps).astype(float).tolist()
)
value = st.one_of(st.none(), any_bits, odd, decimals, small)
series = st.one_of(
    st.lists(value, max_size=40),
    st.lists(small, max_size=80),
    st.lists(st.one_of(small, st.none()), max_size=80),
    st.lists(decimals, max_size=80),
    st.lists(st.floats(1, 2), max_size=80),
    counter,
)


def samples(by_series: list[list[float | None]]) -> pa.Table:
    """A series each, as sorted rows."""
    ids = [i << 52 for i, values in enumerate(by_series) for _ in values]
    times = [1_000 * at for values in by_series for at in range(len(values))]
    stored = [v for values in by_series for v in values]
    # From bits, so that a NaN keeps its payload.
    bits = np.array([0.0 if v is None else v for v in stored], np.float64)
    column = pa.array(bits, mask=np.array([v is None for v in stored], np.bool_))
    return pa.table([pa.array(ids, pa.int64()), pa.array(times, pa.int64()), column], SAMPLES.arrow)


def bits_of(rows: pa.Table) -> list[int | None]:
    column = rows.column("value").combine_chunks()
    bits = column.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.uint64)
    valid = column.is_valid().to_pylist()
    return [int(b) if there else None for b, there in zip(bits, valid, strict=True)]


def file_of(rows: pa.Table) -> pa.Buffer:
    return encode(rows, SAMPLES, COMPACT, ["series_id", "ts"])


@given(st.lists(series, max_size=6))
def test_every_bit_comes_back(by_series):
    rows = samples(by_series)

    stored = split(rows)

    assert joined(stored).schema == rows.schema
    assert bits_of(joined(stored)) == bits_of(rows)
    assert joined(stored).select(["series_id", "ts"]).equals(rows.select(["series_id", "ts"]))


@given(st.lists(series, min_size=1, max_size=6))
def test_every_bit_comes_back_from_a_file(by_series):
    rows = samples(by_series)

    file = pq.ParquetFile(pa.BufferReader(file_of(rows)))

    assert bits_of(read_columns(file, ["ts", "value"])) == bits_of(rows)


@given(st.lists(series, min_size=1, max_size=6))
def test_the_formula_of_the_view_gives_the_same_bits_in_other_engines(by_series):
    rows = samples(by_series)
    stored = split(rows)
    formula = "coalesce(value, CAST(scaled + shift AS DOUBLE) / divisor) AS value"

    sums = pl.col("scaled") + pl.col("shift")
    by_polars = pl.from_arrow(stored).select(
        pl.coalesce("value", sums.cast(pl.Float64) / pl.col("divisor")).alias("value")
    )

    by_duckdb = duckdb.sql(f"SELECT {formula} FROM stored").to_arrow_table()
    assert bits_of(by_duckdb) == bits_of(rows)
    assert bits_of(by_polars.to_arrow()) == bits_of(rows)


def test_counters_and_decimals_become_integers_and_what_gains_nothing_stays():
    rng = np.random.default_rng(1)
    by_series = [
        np.cumsum(rng.poisson(20, 240)).astype(float).tolist(),
        (rng.integers(0, 10_000, 240) / 100).tolist(),
        (rng.integers(1, 900, 240) * 4096.0).tolist(),
        [1.0] * 240,
        np.exp(rng.normal(0, 50, 240)).tolist(),
    ]

    stored = split(samples(by_series))

    divisors = [set(stored["divisor"].to_pylist()[n : n + 240]) for n in range(0, 1200, 240)]
    assert divisors == [{1.0}, {100.0}, {2.0**-12}, {None}, {None}]


def test_a_value_that_does_not_fit_stays_beside_integers_of_its_series():
    values = [n / 10 for n in range(100)]
    values[7], values[50] = NORMAL_NAN, -0.0

    stored = split(samples([[*values, None]]))

    kept = [i for i, v in enumerate(stored["scaled"].to_pylist()) if v is None]
    assert kept == [7, 50, 100]
    assert stored["value"].is_valid().to_pylist() == [i in (7, 50) for i in range(101)]


def test_a_series_goes_on_where_the_one_before_has_ended():
    stored = split(samples([[float(n) for n in range(100)], [1e9 + 3 * n for n in range(100)]]))

    steps = np.diff(stored["scaled"].to_numpy())
    assert steps.tolist() == [1] * 99 + [0] + [3] * 99


def test_counters_take_less_than_half_of_what_doubles_do():
    rng = np.random.default_rng(2)
    seconds = [(np.cumsum(rng.poisson(20, 240)) / 100).tolist() for _ in range(200)]
    rows = samples(seconds)
    plain = pa.BufferOutputStream()
    pq.write_table(rows, plain, compression="zstd", compression_level=9, use_dictionary=False)

    assert 2 * file_of(rows).size < plain.getvalue().size


@pytest.mark.parametrize("largest", [2.0**59, 2.0**62, -(2.0**60)])
def test_series_of_large_integers_never_overflow(largest):
    """Each goes on from the one before, which must not add up."""
    by_series = [[largest - 2.0**20 * n * (-1) ** s for n in range(40)] for s in range(60)]

    rows = samples(by_series)

    assert bits_of(joined(split(rows))) == bits_of(rows)


def test_columns_of_a_file_say_what_the_table_does():
    file = pq.ParquetFile(pa.BufferReader(file_of(samples([[1.0, 2.0, 4.0] * 20]))))

    assert file.schema_arrow == SAMPLES.stored_arrow
    assert [c.name for c in SAMPLES.layout_columns] == list(COLUMNS)
