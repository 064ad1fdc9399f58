"""Files move to a colder root, and whoever reads sees every row once at every instant."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from tests import faulty_s3
from tests.tables import WrittenTables
from tests.unit.maintenance.dying import Killed, deaths, dying
from tests.unit.maintenance.four_days import (
    AFTER,
    BEGIN,
    DAYS,
    NOW,
    A,
    B,
    contents,
    rows_of,
    rows_of_a,
    settle,
    tier,
)
from varve.maintenance import deletion, vacuum
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.tiering import HANDOVER_MS, TABLES, Tiering
from varve.model.errors import NeedsOperator, TemporaryError
from varve.model.window import DAY_MS, HOUR_MS, TIERS
from varve.query.sql import connect
from varve.storage import positions
from varve.storage import snapshot as snapshots
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table


def test_old_files_move_and_every_row_is_seen_once_before_meanwhile_and_after(tables):
    before = contents(tables.store)

    report = tier(tables.store)
    assert report["done"]["moved"][0]["copied"] == 48
    assert contents(tables.store) == before
    assert contents(tables.store.alone) == before, "the copies have not taken over yet"

    report = tier(tables.store, NOW + HANDOVER_MS - 1)
    assert report["done"]["moved"][0]["removed"] == 0

    settle(tables.store, NOW + HANDOVER_MS)
    assert contents(tables.store) == before
    hot, cold = (snapshot(root, "samples") for root in tables.store.roots())
    assert len(hot.files) == 48
    assert min(f.minimum["ts"] for f in hot.files) > NOW - AFTER
    assert rows_of(pa.concat_tables([hot.scan(Bounds()), cold.scan(Bounds())])) == before["samples"]
    assert all(snapshot(tables.store.colder, t.table).files for t in TIERS[:3])


def test_sql_reads_all_roots_as_one(tables):
    query = "SELECT count(*), sum(value) FROM raw"
    before = connect(tables.store, query).execute(query).fetchall()

    settle(tables.store)

    assert connect(tables.store, query).execute(query).fetchall() == before
    assert connect(tables.store.alone, query).execute(query).fetchall() != before


def test_a_run_that_dies_at_any_commit_shows_every_row_once_and_the_next_one_finishes(tables):
    before, now, died = contents(tables.store), NOW, 0
    for _ in range(4):
        for _ in deaths(partial(tier, tables.store, now)):
            died += 1
            assert {n: len(r) for n, r in contents(tables.store).items()} == {
                n: len(r) for n, r in before.items()
            }
        now += HANDOVER_MS

    assert died >= 12
    settle(tables.store, now)
    assert contents(tables.store) == before


def test_readers_that_open_the_roots_in_either_order_miss_nothing(tables):
    states = []
    now, hot, cold = NOW, tables.store.alone, tables.store.colder
    want = set(rows_of(snapshot(hot, "samples").scan(Bounds())))

    def look():
        try:
            below = rows_of(snapshot(cold, "samples").scan(Bounds()))
        except NeedsOperator:
            below = []
        states.append((now, rows_of(snapshot(hot, "samples").scan(Bounds())), below))

    look()
    for _ in range(3):
        job = Tiering(tables.store, (AFTER,))
        for _ in deaths(partial(execute, job, tables.store, now, only=["samples"])):
            look()
        look()
        now += HANDOVER_MS
        look()

    near = [
        (one, other)
        for one, other in itertools.product(states, states)
        if abs(one[0] - other[0]) < HANDOVER_MS
    ]
    assert len(near) > 10
    assert all(want == set(one[1]) | set(other[2]) for one, other in near)


def test_a_follower_sees_what_a_fresh_reader_sees(tables):
    follower = Follower(tables.store, "samples")
    now = NOW
    for _ in range(3):
        tier(tables.store, now)
        now += HANDOVER_MS
        follower.follow()
        fresh = snapshot(tables.store, "samples")
        assert {f.path for f in follower.snapshot.files} == {f.path for f in fresh.files}
        assert len(follower.snapshot.scan(Bounds())) == DAYS * 24 * 12
    tables.put([(A.series_id, NOW + 1, 1.0)])
    follower.follow()
    assert len(follower.snapshot.scan(Bounds())) == DAYS * 24 * 12 + 1


def test_late_rows_of_a_range_that_has_moved_are_rolled_up_exactly(tables, filled, tmp_path):
    shutil.copytree(filled, tmp_path / "stayed")
    stayed = WrittenTables(str(tmp_path / "stayed"))
    now = settle(tables.store)
    late = [(A.series_id, BEGIN + 5 * HOUR_MS + n, 100.0 + n) for n in range(5)]

    for written in (tables, stayed):
        written.put(late)
        written.roll_up()

    for table in TIERS:
        newest = [newest_rows(s, table.table) for s in (tables.store, stayed.store)]
        assert newest[0] == newest[1]
    settle(tables.store, now)
    assert len(snapshot(tables.store, "samples").scan(Bounds())) == DAYS * 24 * 12 + 5


def newest_rows(store, table):
    """The rows that count, without their revisions: those are versions of the table below."""
    rows = snapshot(store, table).scan(Bounds()).to_pylist()
    newest = {}
    for row in sorted(rows, key=lambda row: row["revision"]):
        newest[row["series_id"], row["window_end"]] = {**row, "revision": None}
    return {key: repr(row) for key, row in newest.items()}


def test_rows_that_wait_for_a_repair_stay(tables):
    tables.put([(A.series_id, BEGIN + HOUR_MS + 7, 1.0)])  # late, not repaired yet

    settle(tables.store)

    (waiting,) = [
        f for f in snapshot(tables.store.alone, "samples").files if f.maximum["ts"] < NOW - AFTER
    ]
    assert waiting.rows == 1


@pytest.mark.parametrize("is_moved", [False, True], ids=["in both roots", "moved"])
def test_what_is_deleted_is_gone_from_every_root(tables, is_moved):
    if is_moved:
        settle(tables.store)
    else:
        tier(tables.store)
    match = ('up{host="a"}',)

    execute(Deletion(tables.store, Wanted(match, by="test")), tables.store, NOW)

    for store in (tables.store, *tables.store.roots()):
        assert rows_of_a(store) == dict.fromkeys(TABLES, 0)
    settle(tables.store)
    assert len(snapshot(tables.store, "samples").scan(Bounds())) == DAYS * 24 * 6


def test_a_deletion_that_dies_at_any_commit_leaves_nothing_half_done(tables):
    settle(tables.store)
    before, died, owed = rows_of_a(tables.store), 0, 0
    job = Deletion(tables.store, Wanted(('up{host="a"}',), by="test"))

    for _ in deaths(lambda: execute(job, tables.store, NOW)):
        died += 1
        is_owed = deletion.is_owed(tables.store)
        owed += is_owed
        assert is_owed or rows_of_a(tables.store) in (before, dict.fromkeys(TABLES, 0))

    assert died > owed > 10
    assert not deletion.is_owed(tables.store)
    for store in (tables.store, *tables.store.roots()):
        assert rows_of_a(store) == dict.fromkeys(TABLES, 0)


def test_a_deletion_that_died_between_the_roots_is_finished_by_maintenance(tables):
    settle(tables.store)
    job = Deletion(
        tables.store, Wanted(('up{host="a"}',), BEGIN + 590_000, BEGIN + 600_000, by="test")
    )
    samples = snapshot(tables.store, "samples").scan(Bounds()).num_rows
    with pytest.raises(Killed), dying(written=True, at=2):
        execute(job, tables.store, NOW)
    assert Table(tables.store, "samples").position(positions.deletion()) is None

    assert deletion.finish(tables.store)

    assert not deletion.is_owed(tables.store)
    assert snapshot(tables.store, "samples").scan(Bounds()).num_rows == samples - 1
    (minute,) = snapshot(tables.store, "rollup_1m").scan(Bounds(end_ms=BEGIN + 600_000)).to_pylist()
    assert minute["series_id"] == B.series_id


def test_rows_expire_in_every_root(tables):
    settle(tables.store)
    kept = {"samples": 3 * DAY_MS} | {t.table: 300 * DAY_MS for t in TIERS}

    execute(Expiration(tables.store, Retention(kept)), tables.store, NOW)

    for store in tables.store.roots():
        first = min(f.minimum["ts"] for f in snapshot(store, "samples").files)
        assert first > BEGIN + DAY_MS
    assert len(snapshot(tables.store, "samples").scan(Bounds())) == 3 * 24 * 12


@pytest.mark.parametrize("job", ["deletion", "expiry"])
def test_rows_go_from_a_cold_root_whose_table_lacks_a_column_of_this_release(tables, job):
    settle(tables.store)
    cold = tables.store.roots()[-1]
    log = Path(cold.uri("samples")) / "_delta_log" / f"{0:020}.json"
    created = [json.loads(line) for line in log.read_text().splitlines()]
    (metadata,) = (action["metaData"] for action in created if "metaData" in action)
    schema = json.loads(metadata["schemaString"])
    schema["fields"] = [f for f in schema["fields"] if f["name"] != "scaled"]
    metadata["schemaString"] = json.dumps(schema)
    log.write_text("".join(json.dumps(action) + "\n" for action in created))
    assert "scaled" not in Table(cold, "samples").columns

    if job == "deletion":
        wanted = Wanted(('up{host="a"}',), by="test")
        execute(Deletion(tables.store, wanted), tables.store, NOW)
    else:
        kept = {"samples": 3 * DAY_MS} | {t.table: 300 * DAY_MS for t in TIERS}
        execute(Expiration(tables.store, Retention(kept)), tables.store, NOW)

    assert "scaled" in Table(cold, "samples").columns
    left = 4 * 24 * 6 if job == "deletion" else 3 * 24 * 12
    assert len(snapshot(tables.store, "samples").scan(Bounds())) == left


def test_a_cold_root_that_is_away_delays_and_loses_nothing(tables, tmp_path):
    before = contents(tables.store)
    now = settle(tables.store)
    (tmp_path / "cold").rename(tmp_path / "away")

    reader = Follower(tables.store, "samples").snapshot
    recent = Bounds(NOW - DAY_MS, NOW)
    assert len(reader.scan(recent)) == 24 * 12
    with pytest.raises(OSError, match="out-of-reach"):
        reader.scan(Bounds())
    with pytest.raises(NeedsOperator, match="mount it"):
        tier(tables.store, now + DAY_MS)
    assert not (tmp_path / "cold" / "samples" / "_delta_log").exists()
    tables.put([(A.series_id, NOW + n, 1.0) for n in range(1, 6)], complete_ms=NOW + HOUR_MS)
    tables.roll_up()
    kept = {"samples": 3 * DAY_MS} | {t.table: 300 * DAY_MS for t in TIERS}
    execute(Expiration(tables.store, Retention(kept)), tables.store, NOW)

    shutil.rmtree(tmp_path / "cold", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "cold")
    assert len(contents(tables.store)["samples"]) == len(before["samples"]) + 5
    execute(Expiration(tables.store, Retention(kept)), tables.store, NOW)
    assert len(snapshot(tables.store, "samples").scan(Bounds())) == 3 * 24 * 12 + 5


def test_a_cold_root_that_hangs_keeps_no_reader_of_the_hot_one_waiting(tables, monkeypatch):
    settle(tables.store)
    follower, fresh = Follower(tables.store, "samples"), threading.Event()
    monkeypatch.setattr(snapshots, "_COLDER_EVERY_S", 0.0)
    monkeypatch.setattr(snapshots, "_FIRST_S", 0.1)
    monkeypatch.setattr(snapshots, "_NEXT_S", 0.1)
    read = Store.read

    def hangs(self, table, path):
        if self.root == tables.store.colder.root:
            fresh.wait(60)
        return read(self, table, path)

    monkeypatch.setattr(Store, "read", hangs)
    begun = time.monotonic()
    for n in range(20):
        tables.put([(A.series_id, NOW + n + 1, 1.0)])
        follower.follow()
    other = Follower(tables.store, "samples").snapshot
    assert time.monotonic() - begun < 30, "60 s is what one look at the cold root takes"
    assert len(follower.snapshot.scan(Bounds())) == DAYS * 24 * 12 + 20
    assert len(other.scan(Bounds(NOW))) == 20
    with pytest.raises(OSError, match="out-of-reach"):
        other.scan(Bounds())
    fresh.set()


def test_a_copy_that_is_damaged_never_takes_over(tables, tmp_path):
    before = contents(tables.store)
    tier(tables.store)
    names = [f.path for f in snapshot(tables.store.colder, "samples").files]
    (tmp_path / "cold" / "samples" / names[0]).write_bytes(b"PAR1")
    shutil.copy(tmp_path / "cold" / "samples" / names[1], tmp_path / "cold" / "samples" / names[2])

    report = tier(tables.store, NOW + HANDOVER_MS)

    assert [m["kept"] for m in report["done"]["moved"] if m["table"] == "samples"] == [2]
    assert contents(tables.store) == before
    settle(tables.store, NOW + HANDOVER_MS)
    assert contents(tables.store) == before
    assert min(f.minimum["ts"] for f in snapshot(tables.store.alone, "samples").files) > NOW - AFTER


def test_a_file_that_is_rewritten_during_the_handover_stays_above(tables):
    before = contents(tables.store)
    tier(tables.store)
    hour = [(A.series_id, BEGIN + n + 1, 7.0) for n in range(600)]
    tables.put(hour)
    tables.roll_up()
    execute(Compaction(tables.store), tables.store, NOW)

    settle(tables.store, NOW + HANDOVER_MS)

    found = snapshot(tables.store, "samples").scan(Bounds())
    assert len(found) == len(before["samples"]) + 600
    assert len(set(rows_of(found))) == len(found)


def test_there_may_be_a_warm_root_between(tables, tmp_path):
    before = contents(tables.store)
    warm = Store(str(tmp_path / "warm"), {}, Store(str(tmp_path / "cold")))
    store = Store(tables.store.root, {}, warm)

    settle(store, after=(DAY_MS, 3 * DAY_MS))

    assert contents(store) == before
    hot, warm, cold = (snapshot(root, "samples") for root in store.roots())
    assert [len(s.files) for s in (hot, warm, cold)] == [24, 48, 24]


def test_vacuum_deletes_what_has_moved_and_keeps_the_log_of_a_move_under_way(tables):
    tier(tables.store)
    much_later = NOW + 400 * DAY_MS
    hot, cold = vacuum.find_all_garbage(tables.store, "samples", much_later)
    assert cold.keep_log_from == 0
    assert (hot.paths, cold.paths) == ((), ())

    now = settle(tables.store, NOW + HANDOVER_MS)
    before = contents(tables.store)
    for garbage in vacuum.find_all_garbage(tables.store, "samples", much_later):
        vacuum.delete(garbage)
    assert len(list((tables_folder(tables.store)).glob("*.parquet"))) == 48
    assert contents(tables.store) == before
    assert not tier(tables.store, now)["planned"]["moves"]


def tables_folder(store):
    return Path(store.root) / "samples"


def test_an_s3_that_fails_delays_and_loses_nothing(tables, monkeypatch):
    monkeypatch.setattr(faulty_s3, "HANG_S", 0.2)
    before, after = contents(tables.store), (DAYS * DAY_MS - 6 * HOUR_MS,)
    with faulty_s3.FaultyS3() as s3:
        store = Store(tables.store.root, {}, Store(s3.root, s3.options))
        job, now = Tiering(store, after), NOW
        s3.failing = 0.15
        for _ in range(20):
            # A client that gives up is an error, and the next run goes on.
            with contextlib.suppress(TemporaryError):
                if not execute(job, store, now, only=["samples"]).planned.moves:
                    break
                now += HANDOVER_MS
        s3.failing = 0.0
        assert s3.faults.total() > 5
        settle(store, now, after)
        assert contents(store) == before
        assert len(snapshot(store.alone, "samples").files) < DAYS * 24 - 5


def test_without_a_colder_root_it_says_what_to_set(tables):
    with pytest.raises(NeedsOperator, match="storage.cold_root"):
        Tiering(tables.store.alone, ())
