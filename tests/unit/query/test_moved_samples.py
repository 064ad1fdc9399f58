"""Who follows the tables for long answers from colder roots as one does that opens them now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables import QUERY, WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.tiering import HANDOVER_MS, TABLES, Tiering
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS
from varve.query.evaluation import Options, evaluate
from varve.query.reader import Reader
from varve.query.snapshots import GoneError, Snapshots
from varve.query.tables import Tables
from varve.query.view import FileGone
from varve.storage import positions
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store

BEGIN = 1_795_305_600_000  # midnight, UTC
DAYS, OF_A_DAY = 3, 24
NOW = BEGIN + DAYS * DAY_MS
MOVED_AFTER = (DAY_MS, 2 * DAY_MS)
UP = define("up", {"host": "a"}, metric_type="gauge")


class Followed:
    """Tables over three roots, and a reader that has opened them before anything moved."""

    def __init__(self, folder) -> None:
        tables = WrittenTables(str(folder / "hot"))
        tables.define([UP])
        for begin in range(BEGIN, NOW, 3 * HOUR_MS):
            rows = [(UP.series_id, begin + n * MINUTE_MS, float(n)) for n in range(1, 4)]
            tables.put(rows, complete_ms=begin + 3 * HOUR_MS)
        tables.roll_up()
        cold = Store(str(folder / "cold"))
        self.store = Store(str(folder / "hot"), {}, Store(str(folder / "warm"), {}, cold))
        self.now_ms = NOW
        self.written = tables
        self.reader = Tables(self.store, [QUERY], 64 << 20)

    def do(self, job) -> None:
        execute(job, self.store, self.now_ms)
        self.now_ms += HANDOVER_MS
        self.reader.poll()

    def put(self, ts: int) -> None:
        self.written.put([(UP.series_id, ts, 1.0)])

    def move(self, times: int) -> None:
        for _ in range(times):
            self.do(Tiering(self.store, MOVED_AFTER))
            self.require_all(DAYS * OF_A_DAY)

    def require_all(self, count: int) -> None:
        """By what it has in memory, and once it has to read its files again."""
        fresh = Tables(self.store, [QUERY], 64 << 20)
        wanted = answer(fresh)
        fresh.close()
        assert count_of(wanted) == count
        assert repr(answer(self.reader)) == repr(wanted)
        self.reader.hold(None)
        while self.reader.poll():
            pass
        assert repr(answer(self.reader)) == repr(wanted)

    def files(self) -> list[int]:
        """How many of samples each root has."""
        return [len(snapshot(root, "samples").files) for root in self.store.roots()]


def answer(reader):
    return evaluated(reader.view)


def evaluated(view):
    return evaluate(view, f"up[{DAYS}d]", NOW, Options(tier="raw")).result.value.samples


def snapshots_of(followed):
    return Snapshots(followed.store, [QUERY], lambda: followed.reader.view)


def count_of(samples) -> int:
    return len(samples.ts)


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def test_files_that_move_from_root_to_root_stay_in_the_answers(followed):
    followed.move(5)

    assert all(followed.files())


def test_files_that_are_merged_in_a_colder_root_stay_in_the_answers(followed, monkeypatch):
    monkeypatch.setattr("varve.storage.snapshot._COLDER_EVERY_S", 0.0)
    followed.move(2)
    warm = followed.store.colder

    execute(Compaction(warm), warm, followed.now_ms, only=["samples"])
    followed.reader.poll()

    followed.require_all(DAYS * OF_A_DAY)


def test_samples_that_are_deleted_below_are_in_no_answer_any_more(followed):
    followed.move(5)

    followed.do(Deletion(followed.store, Wanted(("up",), BEGIN, BEGIN + DAY_MS, by="test")))

    followed.require_all((DAYS - 1) * OF_A_DAY)


def test_samples_are_deleted_before_any_has_moved(followed):
    followed.do(Deletion(followed.store, Wanted(("up",), BEGIN, BEGIN + DAY_MS, by="test")))

    followed.require_all((DAYS - 1) * OF_A_DAY)


def test_an_earlier_snapshot_has_what_had_moved_by_then(followed):
    followed.move(5)
    versions, wanted = dict(followed.reader.view.provenance.versions), answer(followed.reader)
    followed.put(NOW)
    followed.reader.poll()

    earlier = snapshots_of(followed).at(versions)

    assert repr(evaluated(earlier)) == repr(wanted)


@pytest.mark.parametrize("job", ["expiry", "deletion", "late samples"])
def test_an_earlier_snapshot_stays_as_it_was_whatever_colder_roots_lose_and_gain(followed, job):
    followed.move(5)
    versions, wanted = dict(followed.reader.view.provenance.versions), answer(followed.reader)

    if job == "expiry":
        followed.do(Expiration(followed.store, Retention(dict.fromkeys(TABLES, 2 * DAY_MS))))
    elif job == "deletion":
        followed.do(Deletion(followed.store, Wanted(("up",), BEGIN, BEGIN + DAY_MS, by="test")))
    else:
        followed.put(BEGIN + 10 * MINUTE_MS)
        followed.written.roll_up()
        for _ in range(4):
            followed.do(Tiering(followed.store, MOVED_AFTER))
    earlier = snapshots_of(followed).at(versions)

    assert earlier.provenance.versions == versions
    assert repr(evaluated(earlier)) == repr(wanted)
    fresh = Tables(followed.store, [QUERY], 64 << 20)
    assert count_of(answer(fresh)) != count_of(wanted)
    fresh.close()


def test_past_the_horizon_of_a_colder_root_an_earlier_snapshot_is_gone(followed):
    followed.move(5)
    versions = dict(followed.reader.view.provenance.versions)
    for log in Path(followed.store.colder.uri("samples"), "_delta_log").iterdir():
        log.unlink()
    followed.put(NOW)
    followed.reader.poll()

    with pytest.raises(GoneError, match="colder root"):
        snapshots_of(followed).at(versions)


def test_labels_of_an_earlier_snapshot_are_gone_with_the_rows_that_say_who_was_there(followed):
    versions = dict(followed.reader.view.provenance.versions)
    followed.put(NOW)
    followed.reader.poll()
    for path in Path(followed.store.uri("rollup_1h")).glob("*.parquet"):
        path.unlink()

    earlier = snapshots_of(followed).at(versions)

    with pytest.raises(FileGone, match="which series there were"):
        Reader(earlier).label_values("host", [], BEGIN, BEGIN + DAY_MS)


def test_who_sees_rows_gone_from_a_colder_root_sees_the_mark_that_says_so(followed, monkeypatch):
    followed.move(5)
    job = Expiration(followed.store, Retention(dict.fromkeys(TABLES, 2 * DAY_MS)))
    follower = Follower(followed.store, "samples")
    followed.put(NOW)
    below = follower.below

    def look(fresh, look=below.look):
        # Everything happens between the look above and the look below.
        monkeypatch.setattr(below, "look", look)
        execute(job, followed.store, followed.now_ms)
        below.look_anew()
        return look(fresh)

    monkeypatch.setattr(below, "look", look)
    seen = follower.refresh()

    oldest = min(file.minimum["ts"] for file in seen.files)
    assert oldest > BEGIN + DAY_MS
    assert follower.position(positions.expired()) == BEGIN + DAY_MS
