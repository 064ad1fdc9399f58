"""Rival writers in processes of their own, on local disk and on S3: no row lost, none doubled.

Local disk runs 300 rounds of each race. S3 (moto's server) runs 5, or as many as VARVE_RACE_ROUNDS
says; `VARVE_RACE_ROUNDS=300 pytest tests/integration/test_commit_races.py` takes some 15 minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from varve.model.errors import NeedsOperator
from varve.model.schema import TABLES
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

RIVAL = Path(__file__).with_name("commit_rival.py")
TABLE = "samples"
# From the request to the start: time for both rivals to have read it.
AHEAD_S = 0.001


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """Storage options of an S3 with a bucket `tables`."""
    server = subprocess.Popen(
        [sys.executable, str(RIVAL.with_name("commit_s3.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    port = int(server.stdout.readline())
    yield {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


class Rivals:
    """Two writers; `race` lets them loose on one table at the same instant."""

    def __init__(self) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(RIVAL)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for _ in range(2)
        ]

    def both(self, move: str, store: Store) -> list[str]:
        arguments = {"root": store.root, "options": dict(store.options)}
        return self.race((move, arguments), (move, arguments))

    def race(self, *moves: tuple[str, dict[str, object]]) -> list[str]:
        start = time.monotonic() + AHEAD_S
        for process, (move, arguments) in zip(self.processes, moves, strict=True):
            process.stdin.write(json.dumps([move, arguments, start]) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self.processes]

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()


@pytest.fixture(scope="module")
def rivals() -> Iterator[Rivals]:
    both = Rivals()
    yield both
    both.close()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Without tables."""
    if request.param == "disk":
        return Store(str(tmp_path / "with a space"))
    return Store(f"s3://tables/{tmp_path.name}", request.getfixturevalue("bucket"))


@pytest.fixture
def where(place: Store, rivals: Rivals) -> tuple[Store, int]:
    """A store with an empty table that both rivals have opened, and how many rounds to play."""
    create_tables(place, (TABLE,))
    rivals.both("open", place)
    return place, int(os.environ.get("VARVE_RACE_ROUNDS", "300" if place.is_local else "5"))


def offsets(store: Store) -> list[int]:
    """Every stored row's offset, ascending, copies included."""
    return sorted(snapshot(store, TABLE).scan(Bounds(), ["ts"]).column("ts").to_pylist())


def append(table: Table, first: int, count: int) -> list[str]:
    """Commits `count` files of one row each; their paths."""
    from commit_rival import samples

    files = [
        write_file(table.store, TABLE, samples(range(o, o + 1)))
        for o in range(first, first + count)
    ]
    table.refresh()
    commit(table, files, transactions={"setup": Step(table.position("setup"), first + count)})
    return [f.path for f in files]


@pytest.fixture(autouse=True)
def _helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RIVAL.parent))


def test_of_one_batch_committed_twice_one_is_stored(where, rivals):
    store, rounds = where
    for i in range(rounds):
        batch = {"work": "bulk:t:0", "expected": i or None, "new": i + 1, "offset": i}
        assert sorted(rivals.race(("once", batch), ("once", batch))) == ["conflict", "won"]

    assert offsets(store) == list(range(rounds))
    assert Table(store, TABLE).position("bulk:t:0") == rounds


def test_overlapping_batches_store_every_offset_once(where, rivals):
    store, rounds = where
    for i in range(rounds):
        rivals.race(
            ("until_stored", {"work": "bulk:t:0", "end": 100 * i + 100}),
            ("until_stored", {"work": "bulk:t:0", "end": 100 * i + 50}),
        )

    assert offsets(store) == list(range(100 * rounds))
    assert Table(store, TABLE).position("bulk:t:0") == 100 * rounds


def test_commits_that_leave_the_position_exclude_each_other_and_both_get_in(where, rivals):
    store, rounds = where
    table = Table(store, TABLE)
    commit(table, [], transactions={"repair": Step(None, 7)})
    for i in range(rounds):
        rivals.race(
            ("insist", {"work": "repair", "version": 7, "offset": 2 * i}),
            ("insist", {"work": "repair", "version": 7, "offset": 2 * i + 1}),
        )

    assert offsets(store) == list(range(2 * rounds))
    table.refresh()
    assert table.position("repair") == 7


def test_of_two_first_commits_of_a_transaction_one_is_stored(where, rivals):
    store, rounds = where
    for i in range(rounds):
        first = {"work": f"bulk:t:{i}", "expected": None, "new": 0, "offset": i}
        assert sorted(rivals.race(("once", first), ("once", first))) == ["conflict", "won"]

    assert offsets(store) == list(range(rounds))


def test_appends_and_a_rewrite_of_all_files_leave_every_row_once(where, rivals):
    store, rounds = where
    for i in range(rounds):
        stored, rewritten = rivals.race(
            ("until_stored", {"work": "bulk:t:0", "end": i + 1}), ("compact", {})
        )
        assert stored == "stored after 0"
        assert rewritten in {"won", "nothing"}

    assert offsets(store) == list(range(rounds))


def test_rewrites_of_different_files_both_succeed(where, rivals):
    store, rounds = where
    files = append(Table(store, TABLE), 0, 4 * rounds)
    for i in range(0, 4 * rounds, 4):
        ended = rivals.race(
            ("compact", {"files": files[i : i + 2]}),
            ("compact", {"files": files[i + 2 : i + 4]}),
        )
        assert ended == ["won", "won"]

    assert offsets(store) == list(range(4 * rounds))
    assert len(snapshot(store, TABLE).files) == 2 * rounds


def test_of_rewrites_that_share_a_file_one_succeeds(where, rivals):
    store, rounds = where
    files = append(Table(store, TABLE), 0, 3 * rounds)
    for i in range(0, 3 * rounds, 3):
        ended = rivals.race(
            ("compact", {"files": files[i : i + 2]}),
            ("compact", {"files": files[i + 1 : i + 3]}),
        )
        assert sorted(ended) == ["conflict", "won"]

    assert offsets(store) == list(range(3 * rounds))
    assert len(snapshot(store, TABLE).files) == 2 * rounds


def test_tables_created_by_two_at_once_are_one_table(place, rivals):
    assert rivals.both("create", place) == ["created", "created"]

    assert [Table(place, name).version for name in TABLES] == [0] * len(TABLES)


def test_a_checkpoint_is_left_and_opened(place, monkeypatch):
    monkeypatch.setattr("varve.storage.checkpoint.CHECKPOINT_INTERVAL", 10)
    create_tables(place, (TABLE,))
    table = Table(place, TABLE)
    (path,) = append(table, 0, 1)
    while table.version < 10:
        commit(table, [], transactions={"a": Step(table.position("a"), table.version)})

    deadline = time.monotonic() + 60
    while checkpoint.list_versions(place, TABLE) != [9]:
        assert time.monotonic() < deadline
    assert Table(place, TABLE).positions() == {"setup": 1, "a": 9}
    assert [f.path for f in snapshot(place, TABLE).files] == [path]


def test_this_s3_refuses_to_overwrite_and_another_is_refused(bucket, monkeypatch):
    store = Store("s3://tables/probe", bucket)
    store.require_conditional_put()

    plain = obstore.put
    monkeypatch.setattr(obstore, "put", lambda s, p, b, **_: plain(s, p, b))

    with pytest.raises(NeedsOperator, match="conditional puts"):
        store.require_conditional_put()
    client = S3Store(
        "tables", config=bucket | {"aws_region": "us-east-1"}, client_options={"allow_http": True}
    )
    assert not [o for batch in obstore.list(client, "probe/_probe") for o in batch]
