from __future__ import annotations

from pathlib import Path

import pytest

from varve.model.errors import NeedsOperator
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.log import entries, list_versions
from varve.storage.log_expiry import expire_log
from varve.storage.snapshot import Follower, snapshot


@pytest.fixture
def grown(bench):
    """430 versions, checkpoints at 199, 299 and 399, a file in each hundred."""
    bench.fill(430, [50, 150, 250, 350])
    return bench


def times(bench):
    return sorted(snapshot(bench.store, "samples").scan(Bounds()).column("ts").to_pylist())


def test_the_log_a_reader_needs_stays(grown):
    assert expire_log(grown.table(), 120) == 120

    assert list_versions(grown.store, "samples") == list(range(120, 431))
    assert [e.version for e in entries(grown.store, "samples", 119, 430)] == list(range(120, 431))
    assert times(grown) == [50, 150, 250, 350]


def test_what_opening_from_the_oldest_checkpoint_needs_stays_whatever_readers_say(grown):
    follower = Follower(grown.store, "samples")

    assert expire_log(grown.table(), 10_000) == 199

    assert list_versions(grown.store, "samples") == list(range(199, 431))
    for version in (399, 299):
        grown.checkpoint(version).write_bytes(b"")
        assert times(grown) == [50, 150, 250, 350]
    grown.checkpoint(199).write_bytes(b"")
    with pytest.raises(NeedsOperator, match="restore that file"):
        grown.table()
    assert follower.refresh().version == 430


def test_nothing_goes_while_fewer_than_two_checkpoints_are_sound(grown):
    grown.checkpoint(299).write_bytes(b"")
    grown.checkpoint(399).write_bytes(grown.checkpoint(399).read_bytes()[:-1])

    assert expire_log(grown.table(), 10_000) == 0

    assert list_versions(grown.store, "samples") == list(range(431))


def test_a_damaged_oldest_checkpoint_does_not_count(grown):
    grown.checkpoint(199).write_bytes(b"")

    assert expire_log(grown.table(), 10_000) == 299

    grown.checkpoint(399).write_bytes(b"")
    assert times(grown) == [50, 150, 250, 350]


def test_checkpoints_that_a_crash_left_behind_go(grown):
    stray = grown.checkpoint(150)
    stray.write_bytes(grown.checkpoint(199).read_bytes())

    expire_log(grown.table(), 0)

    assert checkpoint.list_versions(grown.store, "samples") == [199, 299, 399]


def test_it_goes_on_where_it_was_broken_off(grown, monkeypatch):

    plain, deleted = Path.unlink, []

    def broken(path, **options):
        if len(deleted) == 70:
            raise OSError("power")
        deleted.append(path)
        plain(path, **options)

    with monkeypatch.context() as crash:
        crash.setattr(Path, "unlink", broken)
        with pytest.raises(OSError, match="power"):
            expire_log(grown.table(), 180)

    assert list_versions(grown.store, "samples") == list(range(70, 431))
    assert times(grown) == [50, 150, 250, 350]
    assert expire_log(grown.table(), 180) == 110
    assert expire_log(grown.table(), 180) == 0


def test_a_young_table_keeps_all_of_its_log(bench):
    table = bench.fill(150, [])

    assert expire_log(table, 150) == 0
    assert list_versions(bench.store, "samples") == list(range(151))
