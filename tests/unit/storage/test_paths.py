"""Homes and files whose names mean something to programs that take paths for URLs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from varve.query.sql import connect
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.log import file_name
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

# delta-rs unescapes the path of a home a second time; nothing of Varve's goes through it.
UNKNOWN_TO_DELTA_RS = {"a%20b", "a%2Fb", "back\\slash"}
NAMES = [
    *UNKNOWN_TO_DELTA_RS,
    "a b",
    " a ",
    "a#b",
    "a+b",
    "a?b=c&d",
    "a;b,c",
    "50%",
    "Köln/東京",
    "[a]{b}*",
    "quo'te\"s",
    "a:b@c",
    "trailing/",
    "trailing//",
]


def put(store: Store, table: Table, ts: int, rows_of) -> None:
    rows = rows_of({"series_id": [1], "ts": [ts], "value": [1.0]})
    file = write_file(store, "samples", rows)
    commit(table, [file], transactions={"a": Step(table.position("a"), ts)})


@pytest.fixture
def rows_of():
    import pyarrow as pa

    types = {"series_id": pa.int64(), "ts": pa.int64(), "value": pa.float64()}
    return lambda columns: pa.table({n: pa.array(columns[n], t) for n, t in types.items()})


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_home_of_any_name_works_whole(tmp_path, name, rows_of):
    home = f"{tmp_path}/{name}"
    store = Store(home)
    create_tables(store, ("samples",))
    table, follower = Table(store, "samples"), Follower(store, "samples")
    for ts in (1, 2):
        put(store, table, ts, rows_of)
    checkpoint.write(store, "samples", table.version)
    put(store, table, 3, rows_of)
    removed = follower.refresh().files[0]
    rewrite(table, [], [Removal(removed.path, removed.size, rows_disappear=True)])

    (Path(home) / "samples" / file_name(0)).unlink()

    assert follower.refresh().scan(Bounds()).column("ts").to_pylist() == [2, 3]
    assert snapshot(store, "samples").scan(Bounds(1, 3)).column("ts").to_pylist() == [2, 3]
    assert connect(store, "samples").sql("SELECT ts FROM samples ORDER BY ts").fetchall() == [
        (2,),
        (3,),
    ]
    # Nothing lies anywhere else.
    inside = {path for path in tmp_path.rglob("*.parquet") if Path(home) in path.parents}
    assert inside == set(tmp_path.rglob("*.parquet"))
    assert len(inside) == 4
    if name not in UNKNOWN_TO_DELTA_RS:
        delta = DeltaTable(store.uri("samples"))
        assert sorted(delta.to_pyarrow_table()["ts"].to_pylist()) == [2, 3]
        delta.create_checkpoint()
        assert snapshot(store, "samples").scan(Bounds()).num_rows == 2


def test_files_of_other_programs_are_found_by_their_unescaped_names(bench):
    table, follower = bench.table(), Follower(bench.store, "samples")
    folder = Path(bench.store.uri("samples"))
    odd = {"a b.parquet": "a%20b.parquet", "ü#%.parquet": "%C3%BC%23%25.parquet"}
    adds = []
    for ts, (name, escaped) in enumerate(odd.items(), 1):
        new = bench.file([ts])
        (folder / new.path).rename(folder / name)
        adds.append(
            {
                "add": {
                    "path": escaped,
                    "partitionValues": {},
                    "size": new.size,
                    "modificationTime": 0,
                    "dataChange": True,
                    "stats": new.statistics(),
                }
            }
        )
    assert table.write_next("WRITE", adds)
    checkpoint.write(bench.store, "samples", table.version)

    for now in (follower.refresh(), snapshot(bench.store, "samples")):
        assert {f.path for f in now.files} == set(odd)
        assert sorted(now.scan(Bounds()).column("ts").to_pylist()) == [1, 2]

    removals = [Removal(f.path, f.size, rows_disappear=True) for f in follower.snapshot.files]
    version = rewrite(table, [], removals)
    body = bench.store.read("samples", file_name(version)).splitlines()
    removed = [json.loads(line)["remove"]["path"] for line in body if b'"remove"' in line]
    assert sorted(removed) == sorted(odd.values())
    assert list(follower.refresh().files) == []
    assert DeltaTable(bench.store.uri("samples")).file_uris() == []
    checkpoint.write(bench.store, "samples", version)
    assert list(snapshot(bench.store, "samples").files) == []
