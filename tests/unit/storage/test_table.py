from __future__ import annotations

import errno
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES, table_schema
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.log import encode, entries, newer
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


def log_path(table: Table, version: int) -> Path:
    return Path(table.store.uri(table.name)) / f"_delta_log/{version:020d}.json"


def add_column_to_release(monkeypatch, name: str = "samples") -> None:
    """The schema of a later release: one column more."""
    from varve.model import schema

    later = table_schema(name)
    ddl = later.columns[-1]
    extra = type(ddl)("weight", ddl.arrow_type, ddl.delta_type, True, "New. Unit: 1.")
    grown = replace(later, columns=(*later.columns, extra))
    plain = schema.table_schema
    for module in ("table", "files", "snapshot", "scan"):
        monkeypatch.setattr(
            f"varve.storage.{module}.table_schema", lambda n: grown if n == name else plain(n)
        )


def test_tables_are_created_once_and_open_elsewhere(tmp_path):
    store = Store(str(tmp_path))
    create_tables(store)
    create_tables(store)

    for name in TABLES:
        table = Table(store, name)
        assert table.version == 0
        delta = DeltaTable(store.uri(name))
        assert json.loads(delta.schema().to_json()) == json.loads(table.schema.delta_json)
        assert delta.metadata().configuration == checkpoint.PROPERTIES
        assert delta.metadata().name == name


def test_a_missing_table_says_what_to_do(tmp_path):
    with pytest.raises(NeedsOperator, match="varve up"):
        Table(Store(str(tmp_path)), "samples")
    with pytest.raises(NeedsOperator, match="no table samples"):
        snapshot(Store(str(tmp_path)), "samples", 0)


def test_a_gained_column_is_added_and_old_rows_have_none(bench, monkeypatch):
    old = bench.table()
    commit(old, [bench.file([1])], transactions={"a": Step(None, 1)})
    add_column_to_release(monkeypatch)

    create_tables(bench.store, ("samples",))

    assert list(bench.table().columns)[-1] == "weight"
    rows = snapshot(bench.store, "samples").scan(Bounds())
    assert rows.to_pylist() == [{"series_id": 1, "ts": 1, "value": 1.0, "weight": None}]
    assert "weight" in [f.name for f in DeltaTable(bench.store.uri("samples")).schema().fields]


def test_a_gained_column_interrupts_only_the_commit_under_way(bench, monkeypatch):
    table, file = bench.table(), bench.file([1])
    with monkeypatch.context() as later:
        add_column_to_release(later)
        create_tables(bench.store, ("samples",))

    assert commit(table, [file], transactions={"a": Step(None, 1)}) == 2


def test_columns_of_a_newer_release_are_not_touched(bench, monkeypatch):
    with monkeypatch.context() as later:
        add_column_to_release(later)
        create_tables(bench.store, ("samples",))

    with pytest.raises(NeedsOperator, match="weight double"):
        create_tables(bench.store, ("samples",))


def test_two_thousand_commits_open_fast(bench):
    files = [bench.file([i]) for i in range(3)]
    table = bench.table()
    for version in range(1, 1_950):
        action = {"txn": {"appId": "a", "version": version}}
        log_path(table, version).write_bytes(encode(f"{version:x}", "WRITE", [action]))
    table.refresh()
    table = bench.grow(1_999)
    commit(table, files, transactions={"b": Step(None, 1)})
    bench.settle()

    started = time.process_time()
    follower = Follower(bench.store, "samples")

    assert time.process_time() - started < 0.5
    assert len(follower.snapshot.files) == 3
    assert follower.position("a") == 1_999


def test_a_reader_behind_an_expired_log_is_told_and_a_handle_starts_over(bench):
    behind, follower = bench.table(), Follower(bench.store, "samples")
    table = bench.table()
    commit(table, [bench.file([5])], transactions={"b": Step(None, 1)})
    bench.grow(205)
    for version in range(150):
        log_path(table, version).unlink()

    with pytest.raises(NeedsOperator, match="rebuild by range"):
        list(entries(bench.store, "samples", 0, 205))
    with pytest.raises(NeedsOperator, match="rebuild by range"):
        list(newer(bench.store, "samples", 0))
    assert behind.refresh() is None
    assert behind.position("a") == 205
    assert [f.minimum["ts"] for f in follower.refresh().files] == [5]
    assert follower.refresh() is follower.snapshot


def test_a_past_version_is_read_as_it_was_until_its_log_expires(bench):
    table = bench.table()
    for i in range(3):
        commit(table, [bench.file([i])], transactions={"b": Step(i or None, i + 1)})
    bench.grow(250)

    assert [len(snapshot(bench.store, "samples", v).files) for v in (0, 1, 2, 3, 120, 250)] == [
        0, 1, 2, 3, 3, 3,
    ]  # fmt: skip
    with pytest.raises(NeedsOperator):
        snapshot(bench.store, "samples", 251)
    for version in range(50):
        log_path(table, version).unlink()
    with pytest.raises(NeedsOperator, match="version 60 has expired|rebuild by range"):
        snapshot(bench.store, "samples", 60)


def test_a_file_system_and_a_bucket_are_told_apart():
    assert Store("/tables").is_local
    bucket = Store("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert not bucket.is_local
    assert bucket.uri("samples") == "s3://bucket/x/samples"


@pytest.mark.parametrize(
    "option",
    [
        {"aws_conditional_put": "disabled"},
        {"conditional_put": "disabled"},
        {"AWS_S3_ALLOW_UNSAFE_RENAME": "true"},
    ],
)
def test_options_that_let_writers_overwrite_each_other_are_refused(option):
    with pytest.raises(NeedsOperator, match="overwrite each other"):
        Store("s3://bucket", option)


def test_a_file_is_created_whole_and_once(tmp_path):
    store = Store(str(tmp_path))
    store.prepare("samples")

    assert store.put_if_absent("samples", "x", b"first")
    assert not store.put_if_absent("samples", "x", b"second")

    assert store.read("samples", "x") == b"first"
    assert {p.name for p in Path(store.uri("samples")).iterdir()} == {"_delta_log", "x"}
    assert list(store.read_many("samples", ["x", "y"])) == [b"first", None]


def test_a_file_system_without_hard_links_is_refused_with_advice(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)

    with pytest.raises(NeedsOperator, match="no hard links"):
        create_tables(Store(str(tmp_path)))
