"""Sample columns against a dictionary: whatever the files, one (series_id, ts) is one sample."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from varve.model.staleness import is_stale
from varve.query import sample_selection
from varve.query.sample_columns import SampleColumns, from_arrow, merge
from varve.query.sample_selection import find_parts, select_samples

values = st.sampled_from([None, math.nan, -math.inf, -1.0, 0.0, 1.0, 2.5, math.inf])
samples = st.tuples(st.integers(-3, 3), st.integers(0, 12), values)
files = st.lists(st.lists(samples, min_size=1, max_size=30), min_size=1, max_size=5)


def rank(value):
    if value is None:
        return (0, 0.0)
    return (1, 0.0) if math.isnan(value) else (2, value)


def oracle(rows):
    best = {}
    for series_id, ts, value in rows:
        held = best.get((series_id, ts), ...)
        if held is ... or rank(value) > rank(held):
            best[series_id, ts] = value
    return best


def file_columns(rows) -> SampleColumns:
    columns = list(zip(*rows, strict=True))
    types = (pa.int64(), pa.int64(), pa.float64())
    arrays = [pa.array(c, t, from_pandas=False) for c, t in zip(columns, types, strict=True)]
    return from_arrow(pa.table(arrays, names=["series_id", "ts", "value"]))


def plain(values):
    stale = is_stale(values)
    return [
        None if s else ("nan" if math.isnan(v) else v) for v, s in zip(values, stale, strict=True)
    ]


def shown(value):
    return "nan" if value is not None and math.isnan(value) else value


@given(files)
def test_merged_files_hold_each_sample_once_and_the_greatest_of_its_copies(files):
    merged = merge([file_columns(rows) for rows in files])

    wanted = sorted(oracle([row for rows in files for row in rows]).items())
    ids = np.repeat(merged.series_ids, np.diff(merged.offsets)).tolist()
    assert list(zip(ids, merged.ts.tolist(), strict=True)) == [key for key, _ in wanted]
    assert merged.series_ids.tolist() == sorted(set(ids))
    assert (merged.first_ms, merged.last_ms) == (merged.ts.min(), merged.ts.max())
    assert plain(merged.values) == [shown(value) for _, value in wanted]


@given(
    files,
    st.integers(-1, 12),
    st.integers(-1, 13),
    st.lists(st.integers(-3, 4), unique=True),
    st.integers(0, 5),
    st.integers(1, 9),
    st.tuples(st.integers(-1, 12), st.integers(-1, 13)),
)
def test_selected_series_have_their_samples_of_the_left_open_range(
    files, start, end, ids, resident, each, within
):
    series_ids = np.array(ids, dtype=np.int64)
    sample_selection._BLOCK_SAMPLES = each
    parts = [file_columns(r) for r in files]
    taken = []
    by_id = np.argsort(series_ids)
    got = select_samples(
        list(find_parts(parts[:resident], series_ids[by_id], start, end)),
        parts[resident:], series_ids, by_id, start, end, taken.append,
    )  # fmt: skip
    some = slice(len(ids) // 3, len(ids))
    narrowed = {
        row: block.ts[low:high].tolist()
        for block in got.within(*within).blocks(slice(0, len(ids)))
        for row, (low, high) in enumerate(
            zip(block.begins, block.ends, strict=True), block.rows.start
        )
    }
    blocks = [
        (block.rows, row, (block.ts[low:high].copy(), block.values[low:high].copy()), stale)
        for block in got.blocks(some)
        for row, (low, high, stale) in enumerate(
            zip(block.begins, block.ends, block.has_stale, strict=True), block.rows.start
        )
    ]

    best = oracle([row for rows in files for row in rows])
    for i, series_id in enumerate(ids):
        rows = slice(got.begins[i], got.ends[i])
        wanted = sorted((t, v) for (s, t), v in best.items() if s == series_id and start < t <= end)
        assert got.ts[rows].tolist() == [t for t, _ in wanted]
        assert plain(got.values[rows]) == [shown(v) for _, v in wanted]
        inside = [t for t, _ in wanted if within[0] < t <= within[1]]
        assert [t for t in narrowed[i] if within[0] < t <= within[1]] == inside
        assert sorted(set(narrowed[i])) == narrowed[i]
        assert got.has_stale[i] or not any(v is None for _, v in wanted)
        if i >= some.start:
            _, row, (ts, found), stale = blocks[i - some.start]
            assert (row, ts.tolist()) == (i, [t for t, _ in wanted])
            assert plain(found) == [shown(v) for _, v in wanted]
            assert stale == got.has_stale[i]
    copied = int((got.ends - got.begins).sum()) if resident < len(parts) else 0
    assert sum(taken) >= 16 * copied
