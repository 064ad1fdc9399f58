from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Follower, Snapshot, live_files, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

changes = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 3)),
        st.tuples(st.just("rewrite"), st.integers(0, 7)),
        st.tuples(st.just("drop"), st.integers(0, 7)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=12,
)
times = st.integers(-50, 50)
ids = st.integers(-4, 4)


def columns(now: Snapshot) -> list[list[int]]:
    zones = now.zones
    return [
        c.tolist() for c in (zones.first_ms, zones.last_ms, zones.first_series, zones.last_series)
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(changes)
def test_following_a_table_gives_what_opening_it_at_each_version_gives(steps):
    with TemporaryDirectory() as root:
        store = Store(root)
        create_tables(store, ("samples",))
        table, follower = Table(store, "samples"), Follower(store, "samples")
        written = 0
        for kind, n in [*steps, ("look", 0)]:
            live = sorted(live_files(table), key=lambda f: f.path)
            if kind == "append":
                files = [_file(store, written + i) for i in range(n)]
                written += n
                commit(table, files, transactions={"a": Step(table.position("a"), written)})
            elif kind != "look" and live:
                chosen = [f for i, f in enumerate(live) if n >> i % 3 & 1]
                adds = [_file(store, 100 + n)] if kind == "rewrite" else []
                rewrite(table, adds, [Removal(f.path, f.size) for f in chosen])
            else:
                now = follower.refresh()
                fresh = snapshot(store, "samples", now.version)
                assert now.version == table.version
                assert now.files == fresh.files
                assert columns(now) == columns(fresh)
                assert follower.refresh() is now


def _file(store: Store, i: int):
    rows = {
        "series_id": pa.array([i % 5 - 2], pa.int64()),
        "ts": pa.array([i], pa.int64()),
        "value": pa.array([0.5 * i], pa.float64()),
    }
    return write_file(store, "samples", pa.table(rows))


@given(
    st.lists(st.tuples(times, times, ids, ids), max_size=20),
    st.none() | times,
    st.none() | times,
    st.none() | st.sets(ids),
)
def test_a_file_is_left_out_only_if_no_row_of_it_can_be_meant(boxes, start, end, wanted):
    files = tuple(
        LiveFile(
            str(i),
            1,
            1,
            {"ts": min(a, b), "series_id": min(c, d)},
            {"ts": max(a, b), "series_id": max(c, d)},
        )
        for i, (a, b, c, d) in enumerate(boxes)
    )
    now = Snapshot(Store("/nowhere"), "samples", 0, files)
    series = None if wanted is None else np.array(sorted(wanted), np.int64)

    chosen = now.select(Bounds(start, end, series))

    assert chosen == [
        f
        for f in files
        if (start is None or f.maximum["ts"] > start)
        and (end is None or f.minimum["ts"] <= end)
        and (
            wanted is None
            or any(f.minimum["series_id"] <= i <= f.maximum["series_id"] for i in wanted)
        )
    ]


def test_a_file_without_statistics_is_always_read():
    unknown = LiveFile("x", 1, 1, {}, {})
    now = Snapshot(Store("/nowhere"), "samples", 0, (unknown,))

    assert now.select(Bounds(5, 6, np.array([1]))) == [unknown]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, pd.DataFrame]:
    """Rows over 30 files, and the same rows in pandas."""
    store = Store(str(tmp_path_factory.mktemp("scan")))
    create_tables(store, ("samples",))
    rng = np.random.default_rng(3)
    table, frames, files = Table(store, "samples"), [], []
    for _ in range(30):
        frame = pd.DataFrame(
            {
                "series_id": np.sort(rng.integers(-4, 5, 20)),
                "ts": rng.integers(-50, 50, 20),
                "value": rng.normal(size=20),
            }
        )
        files.append(
            write_file(store, "samples", pa.Table.from_pandas(frame, preserve_index=False))
        )
        frames.append(frame)
    commit(table, files, transactions={"a": Step(None, 1)})
    return store, pd.concat(frames)


@settings(max_examples=30)
@given(start=st.none() | times, end=st.none() | times, wanted=st.none() | st.sets(ids))
def test_a_scan_is_a_filter_start_exclusive_and_end_inclusive(filled, start, end, wanted):
    store, rows = filled
    series = None if wanted is None else np.array(sorted(wanted), np.int64)

    found = snapshot(store, "samples").scan(Bounds(start, end, series)).to_pandas()

    keep = pd.Series(data=True, index=rows.index)
    keep &= rows.ts > (-99 if start is None else start)
    keep &= rows.ts <= (99 if end is None else end)
    if wanted is not None:
        keep &= rows.series_id.isin(wanted)
    key = ["series_id", "ts", "value"]
    pd.testing.assert_frame_equal(
        found.sort_values(key).reset_index(drop=True),
        rows[keep].sort_values(key).reset_index(drop=True),
    )


def test_a_scan_returns_the_columns_asked_for_even_without_rows(filled):
    store, _ = filled
    now = snapshot(store, "samples")

    assert now.scan(Bounds(), ["value", "ts"]).schema.names == ["value", "ts"]
    assert now.scan(Bounds(start_ms=1_000), ["value", "ts"]).schema.names == ["value", "ts"]


def test_bounds_of_rollups_are_those_of_the_window_end():
    file = LiveFile("x", 1, 1, {"window_end": 60_000}, {"window_end": 120_000})
    now = Snapshot(Store("/nowhere"), "rollup_1m", 0, (file,))

    assert now.select(Bounds(start_ms=120_000)) == []
    assert now.select(Bounds(end_ms=60_000)) == [file]
    assert Path(now.files[0].path).name == "x"
