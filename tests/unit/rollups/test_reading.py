"""What a task reads of files, against a filter of everything."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model import copies
from varve.model.window import TIERS, Window
from varve.rollups import algebra, kernel, window_keys
from varve.rollups.reading import read
from varve.storage import files
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-5, 40)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(pairs, pairs, st.integers(1, 7))
def test_rows_of_windows_are_found_in_any_order(rows, keys, width):
    wanted = sorted({(s, -(-ts // width) * width) for s, ts in keys})
    ids, times = np.array(rows, np.int64).reshape(-1, 2).T.copy()

    found = window_keys.in_windows(ids, times, width, np.array(wanted, np.int64).reshape(-1, 2))

    assert found.tolist() == [(s, -(-ts // width) * width) in wanted for s, ts in rows]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Files of rollup_1m, of many row groups."""
    monkeypatch.setattr(files, "ROW_GROUP", 7)
    store = Store(str(tmp_path))
    create_tables(store, ["rollup_1m"])
    rng = np.random.default_rng(4)
    written = []
    for spread in (100, 3, 40):
        ids = np.sort(rng.integers(0, 9, 50))
        ts = rng.integers(1, spread, 50) * 60_000
        rows = kernel.aggregate(*copies.merge(ids, ts, rng.random(50)), 60_000)
        new = files.write_file(store, "rollup_1m", algebra.to_table(rows, 3))
        written.append(LiveFile(new.path, new.size, new.rows, new.minimum, new.maximum))
    return Snapshot(store, "rollup_1m", 0, tuple(written))


@pytest.mark.parametrize("columns", [None, ["series_id", "window_end"]])
@pytest.mark.parametrize("series", [None, (2, 5)])
@pytest.mark.parametrize("asked", [False, True])
def test_rows_read_are_those_of_the_window_series_and_question(source, columns, series, asked):
    window = Window(2 * 60_000, 30 * 60_000)
    everything = pa.concat_tables(
        pq.read_table(source.store.uri("rollup_1m") + "/" + f.path) for f in source.files
    ).to_pylist()

    got = read(
        source,
        source.files,
        window,
        columns=columns,
        series=series,
        wanted=(lambda ids, times: (ids + times // 60_000) % 2 == 0) if asked else None,
    )

    low, high = series or (0, 100)
    want = [
        {name: row[name] for name in got.schema.names}
        for row in everything
        if window.start_ms < row["window_end"] <= window.end_ms
        and low <= row["series_id"] <= high
        and not (asked and (row["series_id"] + row["window_end"] // 60_000) % 2)
    ]
    assert 0 < len(want) < len(everything)
    assert sorted(got.to_pylist(), key=repr) == sorted(want, key=repr)


def test_a_column_that_a_file_was_written_without_is_null(source):
    path = source.store.uri("rollup_1m") + "/" + source.files[0].path
    pq.write_table(pq.read_table(path).drop_columns(["stale_ts"]), path)

    got = read(source, source.files, Window(-1, 10**9))

    assert got.schema.names == source_columns()
    assert got.column("stale_ts").null_count == got.num_rows


def test_a_file_that_was_deleted_is_named(source):
    gone = [LiveFile("part-gone.parquet", 1, 1, source.files[0].minimum, source.files[0].maximum)]

    with pytest.raises(FileNotFoundError, match="part-gone"):
        read(source, gone, Window(0, 1))


def source_columns():
    return algebra.to_table(kernel.aggregate(*_nothing(), TIERS[0].width_ms), 0).schema.names


def _nothing():
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
