"""What is read of files, against a filter of everything."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varve.model.schema import table_schema
from varve.storage.bounds import Bounds
from varve.storage.files import write_file
from varve.storage.layout import Layout
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store

MINUTE = 60_000
SMALL = Layout("part-", 7, 7, is_compact=False)


@pytest.fixture
def source(tmp_path: Path) -> Snapshot:
    """Files of rollup_1m, of many row groups."""
    store = Store(str(tmp_path))
    store.prepare("rollup_1m")
    rng = np.random.default_rng(4)
    written = []
    for spread in (100, 3, 40):
        ids, ends = np.sort(rng.integers(0, 9, 50)), rng.integers(1, spread, 50) * MINUTE
        written.append(file_of(store, "rollup_1m", {"series_id": ids, "window_end": ends}))
    return Snapshot(store, "rollup_1m", 0, tuple(written))


def file_of(store: Store, table: str, columns: dict) -> LiveFile:
    """A file with these columns, the others full of something; sorted by the first two."""
    schema = table_schema(table).arrow
    size = len(next(iter(columns.values())))
    some = {f.name: example(f.type) for f in schema}
    rows = {name: columns.get(name, [value] * size) for name, value in some.items()}
    table_of_rows = pa.table(rows, schema=schema).sort_by([(n, "ascending") for n in columns])
    new = write_file(store, table, table_of_rows, SMALL)
    return LiveFile(new.path, new.size, new.rows, new.minimum, new.maximum)


def example(kind: pa.DataType):
    if pa.types.is_map(kind):
        return [("k", "v")]
    if pa.types.is_list(kind):
        return [example(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: example(field.type) for field in kind}
    if pa.types.is_string(kind):
        return "x"
    return pa.scalar(1).cast(kind).as_py() if not pa.types.is_binary(kind) else b"x"


def everything(source: Snapshot) -> list[dict]:
    return pa.concat_tables(
        pq.read_table(f"{source.store.uri(source.table)}/{f.path}") for f in source.files
    ).to_pylist()


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("columns", [None, ["series_id", "window_end"], ["count"]])
@pytest.mark.parametrize("series", [None, (2, 5)])
@pytest.mark.parametrize("ids", [None, [], [3, 4, 8, 20]])
@pytest.mark.parametrize("asked", [False, True])
def test_rows_read_are_those_of_the_window_series_and_question(
    source, columns, series, ids, asked, threads
):
    series_ids = None if ids is None else np.array(ids, np.int64)

    got = source.scan(
        Bounds(2 * MINUTE, 30 * MINUTE, series_ids, series),
        columns,
        wanted=(lambda ids, times: (ids + times // MINUTE) % 2 == 0) if asked else None,
        threads=threads,
    )

    low, high = series or (0, 100)
    want = [
        {name: row[name] for name in got.schema.names}
        for row in everything(source)
        if 2 * MINUTE < row["window_end"] <= 30 * MINUTE
        and low <= row["series_id"] <= high
        and (ids is None or row["series_id"] in ids)
        and not (asked and (row["series_id"] + row["window_end"] // MINUTE) % 2)
    ]
    assert bool(want) == (ids != [])
    assert got.schema.names == columns or columns is None
    assert sorted(got.to_pylist(), key=repr) == sorted(want, key=repr)


def test_a_column_that_some_files_were_written_without_is_null(source):
    path = f"{source.store.uri('rollup_1m')}/{source.files[0].path}"
    pq.write_table(pq.read_table(path).drop_columns(["stale_ts", "resets"]), path)

    got = source.scan(Bounds())

    assert got.schema.names == table_schema("rollup_1m").names()
    assert got.num_rows == 150
    assert got.column("stale_ts").null_count == got.column("resets").null_count == 50


def test_a_file_that_was_deleted_is_named(source):
    gone = LiveFile("part-gone.parquet", 1, 1, source.files[0].minimum, source.files[0].maximum)

    with pytest.raises(FileNotFoundError, match="part-gone"):
        source.scan(Bounds(0, 1), files=[gone])


def test_rows_of_a_table_are_told_by_its_own_time_column(tmp_path):
    store = Store(str(tmp_path))
    for table, times in {"quarantine": "rejected_at", "capacity": "evaluated_at"}.items():
        store.prepare(table)
        found = [file_of(store, table, {times: [t, t + 10]}) for t in (0, 100)]
        now = Snapshot(store, table, 0, found)

        assert now.time_column == times
        assert now.select(Bounds(5, 10)) == found[:1]
        assert now.scan(Bounds(0, 100), [times]).column(times).to_pylist() == [10, 100]


def test_a_table_without_a_time_column_cannot_be_bounded_in_time(tmp_path):
    store = Store(str(tmp_path))
    store.prepare("series")
    one = file_of(store, "series", {"series_id": [1, 2]})
    now = Snapshot(store, "series", 0, [one])

    assert now.scan(Bounds(series=(2, 9)), ["series_id"]).to_pylist() == [{"series_id": 2}]
    with pytest.raises(ValueError, match="series has no time column"):
        now.scan(Bounds(end_ms=1))
    with pytest.raises(ValueError, match="series has no time column"):
        now.select(Bounds(end_ms=1))


def test_a_foreign_engine_reads_the_same_rows_and_skips_files(source):
    database = duckdb.connect()
    database.register("rows", source.arrow_dataset())

    found = database.sql(
        f"SELECT series_id, window_end FROM rows WHERE window_end <= {2 * MINUTE}"
    ).fetchall()

    want = [(r["series_id"], r["window_end"]) for r in everything(source)]
    assert sorted(found) == sorted(pair for pair in want if pair[1] <= 2 * MINUTE)
    Path(f"{source.store.uri('rollup_1m')}/{source.files[0].path}").unlink()
    span = source.files[0].maximum["series_id"]
    assert not database.sql(f"SELECT count FROM rows WHERE series_id > {span}").fetchall()
