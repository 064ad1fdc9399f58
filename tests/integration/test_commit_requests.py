"""What an object store is asked, request by request; and keys that look like parts of a URL."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from varve.query.sql import connect
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import file_name, list_versions
from varve.storage.log_expiry import expire_log
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

TABLE = "samples"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Asked:
    """A store in S3, and what it has been asked since the last look."""

    def __init__(self, bucket, root: str) -> None:
        self._bucket = bucket
        self.store = Store(
            root,
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{bucket.port}",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
            },
        )
        create_tables(self.store, (TABLE,))
        self.requests()

    def requests(self) -> list[tuple[str, str]]:
        """Method and file, by the last part of its key."""
        asked = [(m, address.rpartition("/")[2]) for m, address in self._bucket.requests]
        self._bucket.requests.clear()
        return asked

    def put(self, table: Table, ts: int) -> None:
        rows = {"series_id": [1], "ts": [ts], "value": [1.0]}
        types = {"series_id": pa.int64(), "ts": pa.int64(), "value": pa.float64()}
        rows = pa.table({n: pa.array(c, types[n]) for n, c in rows.items()})
        step = Step(table.position("a"), ts)
        commit(table, [write_file(self.store, TABLE, rows)], transactions={"a": step})


@pytest.fixture(scope="module")
def bucket() -> Iterator[object]:
    running = loaded("commit_s3").Bucket()
    yield running
    running.close()


@pytest.fixture
def asked(bucket, tmp_path) -> Asked:
    return Asked(bucket, f"s3://tables/{tmp_path.name}")


def version(number: int) -> str:
    return file_name(number).rpartition("/")[2]


def test_a_refresh_is_two_requests_whether_there_is_a_new_version_or_not(asked):
    writer, follower = Table(asked.store, TABLE), Follower(asked.store, TABLE)
    asked.requests()

    follower.refresh()
    assert asked.requests() == [("GET", version(1)), ("HEAD", version(0))]

    asked.put(writer, 1)
    asked.requests()
    assert follower.refresh().version == 1
    assert asked.requests() == [("GET", version(1)), ("GET", version(2))]


def test_a_reader_far_behind_asks_for_more_and_more_at_once(asked):
    writer, follower = Table(asked.store, TABLE), Follower(asked.store, TABLE)
    for ts in range(1, 21):
        commit(writer, [], transactions={"a": Step(ts - 1 or None, ts)})
    asked.requests()

    assert follower.refresh().version == 20

    requests = asked.requests()
    assert {m for m, _ in requests} == {"GET"}
    # 1, 1, 2, 4, 8 and 16 versions; of the last 12, which are not there, some are not asked for.
    names = sorted(name for _, name in requests)
    assert names[:21] == [version(n) for n in range(1, 22)]
    assert set(names[21:]) <= {version(n) for n in range(22, 33)}


def test_a_small_file_is_one_put_and_a_commit_no_more_than_three_requests(asked):
    table = Table(asked.store, TABLE)
    asked.requests()

    asked.put(table, 1)

    (file, *commit_requests) = asked.requests()
    assert file[0] == "PUT"
    assert file[1].endswith(".parquet")
    assert commit_requests == [
        ("GET", version(1)),
        ("HEAD", version(0)),
        ("PUT", version(1)),
    ]


def test_a_checkpoint_is_two_puts_and_opening_from_it_reads_it_once(asked):
    table = Table(asked.store, TABLE)
    for ts in range(1, 4):
        asked.put(table, ts)
    checkpoint.write(asked.store, TABLE, 3)
    assert [name for m, name in asked.requests() if m == "PUT"][-2:] == [
        "00000000000000000003.checkpoint.parquet",
        "_last_checkpoint",
    ]

    opened = snapshot(asked.store, TABLE)

    assert len(opened.files) == 3
    assert asked.requests() == [
        ("GET", "_last_checkpoint"),
        ("GET", "00000000000000000003.checkpoint.parquet"),
        ("GET", version(4)),
        ("HEAD", version(3)),
    ]


def test_old_checkpoints_and_logs_are_deleted_and_damaged_ones_passed_over(asked):
    table = Table(asked.store, TABLE)
    for ts in range(1, 6):
        asked.put(table, ts)
        checkpoint.write(asked.store, TABLE, ts)
    assert checkpoint.list_versions(asked.store, TABLE) == [3, 4, 5]

    assert expire_log(table, 100) == 3
    assert list_versions(asked.store, TABLE) == [3, 4, 5]

    name = "_delta_log/00000000000000000005.checkpoint.parquet"
    asked.store.put(TABLE, name, b"")
    asked.store.put(TABLE, "_delta_log/_last_checkpoint", b"\0" * 40)
    assert snapshot(asked.store, TABLE).scan(Bounds()).num_rows == 5
    assert asked.store.list(TABLE, "_delta_log", after=version(4)) == [
        "00000000000000000005.checkpoint.parquet",
        version(5),
        "_last_checkpoint",
    ]


@pytest.mark.parametrize(
    "prefix", ["a%20b", "a b", "a#b", "a+b", "a?b=c&d", "Köln/東京", "50%", "trailing/", "[a]{b}"]
)
def test_a_prefix_names_its_keys_as_they_are(bucket, tmp_path, prefix):
    asked = Asked(bucket, f"s3://tables/{tmp_path.name}/{prefix}")
    table, follower = Table(asked.store, TABLE), Follower(asked.store, TABLE)
    for ts in (1, 2):
        asked.put(table, ts)
    checkpoint.write(asked.store, TABLE, table.version)
    asked.put(table, 3)

    assert sorted(follower.refresh().scan(Bounds()).column("ts").to_pylist()) == [1, 2, 3]
    assert snapshot(asked.store, TABLE).version == 3
    assert connect(asked.store, TABLE).sql("SELECT sum(ts) FROM samples").fetchall() == [(6,)]
    keys = {address for _, address in bucket.requests if address.endswith(".json")}
    folder = prefix.strip("/")
    assert keys
    assert all(
        k.encode("latin-1").decode().startswith(f"/tables/{tmp_path.name}/{folder}/samples/")
        for k in keys
    )


def test_another_program_opens_the_tables(asked):
    table = Table(asked.store, TABLE)
    asked.put(table, 1)
    checkpoint.write(asked.store, TABLE, 1)
    asked.put(table, 2)

    options = dict(asked.store.options) | {"AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    delta = DeltaTable(asked.store.uri(TABLE), storage_options=options)

    assert delta.version() == 2
    assert sorted(delta.to_pyarrow_table()["ts"].to_pylist()) == [1, 2]
