"""While files are in both roots others rewrite them, take them away, or give the move up: no row is
lost, and none that has gone shows again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from functools import partial

import numpy as np
import pytest

from tests.unit.maintenance.dying import deaths
from tests.unit.maintenance.four_days import (
    BEGIN,
    DAYS,
    NOW,
    A,
    B,
    rows_of,
    settle,
    tier,
)
from varve.ingest.retention_classes import RetentionClass
from varve.maintenance import tiering
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiries import AWAY
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.tiering import HANDOVER_MS, TABLES, Tiering
from varve.model.errors import Conflict
from varve.model.series_matcher import SeriesMatcher
from varve.model.window import DAY_MS, HOUR_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table

AFTER = 3 * DAY_MS
FIRST_HOURS = DAYS * DAY_MS - 3 * HOUR_MS
UNTIL = BEGIN + DAY_MS
"""The first day expires, and it is what moves."""
FOREVER = dict.fromkeys(TABLES, 300 * DAY_MS)
OF_ALL = Retention(FOREVER | {"samples": 3 * DAY_MS})
OF_A = Retention(
    FOREVER,
    (
        RetentionClass(
            "a", SeriesMatcher.of({"__name__": "up", "host": "a"}), {"samples": 3 * DAY_MS}
        ),
    ),
)
EXPIRED = {"all series": OF_ALL, "some series": OF_A}


def move(store, now=NOW):
    return tier(store, now, (AFTER,))


def expire(store, kept):
    return execute(Expiration(store, kept), store, NOW, only=["samples"]).done.expired


def samples(store):
    return snapshot(store, "samples").scan(Bounds())


def has_samples(root):
    return load(root, "samples", files=False) is not None


def require_expired(store, kept, more=0):
    """What has expired is in no root, and everything else is there, once."""
    gone = {A.series_id} if kept is OF_A else {A.series_id, B.series_id}
    for root in filter(has_samples, store.roots()):
        for row in samples(root).to_pylist():
            assert row["ts"] > UNTIL or row["series_id"] not in gone, root.root
    rows = rows_of(samples(store))
    assert len(rows) == len(set(rows)) == (DAYS * 2 - len(gone)) * 24 * 6 + more


@pytest.mark.parametrize("kept", EXPIRED.values(), ids=EXPIRED)
def test_what_expires_while_it_is_in_both_roots_is_gone_from_both(tables, kept):
    move(tables.store)
    assert len(snapshot(tables.store.colder, "samples").files) == 24

    done = expire(tables.store, kept)

    assert all(one.is_done for one in done)
    require_expired(tables.store, kept)
    settle(tables.store, NOW + HANDOVER_MS, (AFTER,))
    require_expired(tables.store, kept)


@pytest.mark.parametrize("first", [move, settle], ids=["begun", "finished"])
def test_what_was_expired_before_it_moves_is_not_in_the_colder_root(tables, first):
    expire(tables.store, OF_A)

    first(tables.store)

    require_expired(tables.store, OF_A)


def test_a_copy_of_what_was_merged_meanwhile_expires_once(tables):
    """It would be cut where it is, and its rest stay beside the same rows above."""
    move(tables.store)
    tables.put([(B.series_id, BEGIN + n + 1, 7.0) for n in range(600)])
    tables.roll_up()
    execute(Compaction(tables.store), tables.store, NOW)

    expire(tables.store, OF_A)

    require_expired(tables.store, OF_A, more=600)
    settle(tables.store, NOW + HANDOVER_MS, (AFTER,))
    require_expired(tables.store, OF_A, more=600)


def test_an_expiry_that_dies_while_files_are_in_both_roots_is_finished_by_the_next_run(tables):
    settle(tables.store, after=(FIRST_HOURS,))
    move(tables.store)
    died = 0

    for _ in deaths(partial(expire, tables.store, OF_ALL)):
        died += 1

    assert died == 8, "around the mark, the files in each root, the copies"
    require_expired(tables.store, OF_ALL)


@pytest.mark.parametrize("kept", EXPIRED.values(), ids=EXPIRED)
def test_while_the_colder_root_is_away_rows_expire_above_and_below_once_it_is_back(
    tables, tmp_path, kept
):
    settle(tables.store, after=(FIRST_HOURS,))
    move(tables.store)
    (tmp_path / "cold").rename(tmp_path / "away")

    *_, done = expire(tables.store, kept)

    assert (done.left, done.is_done) == (AWAY, False)
    assert done.rows == 21 * 6 * (1 if kept is OF_A else 2)
    shutil.rmtree(tmp_path / "cold", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "cold")
    *_, done = expire(tables.store, kept)
    assert done.is_done
    require_expired(tables.store, kept)


@contextlib.contextmanager
def before_step(number, rival):
    """A rival does its work once, before the how many-th table that is opened or commit that is
    written. Yields a list that stays empty if there are fewer.
    """
    init, write, left, came = Table.__init__, Table.write_next, number, []

    def count():
        nonlocal left
        left -= 1
        if not left:
            Table.__init__, Table.write_next = init, write
            came.append(True)
            rival()

    def opened(self, *args, **given):
        count()
        init(self, *args, **given)

    def written(self, *args, **given):
        count()
        return write(self, *args, **given)

    Table.__init__, Table.write_next = opened, written
    try:
        yield came
    finally:
        Table.__init__, Table.write_next = init, write


def raced(made, folder, work, rival):
    """Does the work again and again, on a copy of a home, while a rival comes at each of its steps;
    yields the store each time.
    """
    for number in range(1, 100):
        home = folder / str(number)
        for root in ("hot", "cold"):
            if (made / root).exists():
                shutil.copytree(made / root, home / root, copy_function=os.link)
        store = Store(str(home / "hot"), {}, Store(str(home / "cold")))
        with before_step(number, partial(rival, store)) as came, contextlib.suppress(Conflict):
            work(store)
        if not came:
            assert number > 5
            return
        yield store
    pytest.fail("it has no end")


def step(store, now=NOW):
    """Of the move of three hours."""
    job = Tiering(store, (FIRST_HOURS,))
    for due in job.due("samples", now):
        with contextlib.suppress(Conflict):
            job.move(due)


def give_up(store):
    tiering.give_up(store, "samples")


def finish(store):
    step(store, NOW + HANDOVER_MS)


@pytest.mark.parametrize(("work", "rival"), [(give_up, finish), (finish, give_up)])
def test_a_move_that_is_given_up_while_it_is_finished_loses_nothing(tables, tmp_path, work, rival):
    """What is removed in one root must be in the other for good."""
    before = rows_of(samples(tables.store))
    step(tables.store)
    ends = set()

    for store in raced(tmp_path, tmp_path / "raced", work, rival):
        assert rows_of(samples(store)) == before
        finish(store)
        assert rows_of(samples(store)) == before
        hot, cold = (len(snapshot(root, "samples").files) for root in store.roots())
        assert cold == 3, "moved, or begun anew"
        ends.add(hot)
    assert DAYS * 24 in ends, "now and then it is given up"


def expire_all(store):
    expire(store, OF_ALL)


@pytest.mark.parametrize(("work", "rival"), [(expire_all, step), (step, expire_all)])
def test_a_move_that_begins_while_rows_expire_shows_none_of_them(tables, tmp_path, work, rival):
    for store in raced(tmp_path, tmp_path / "raced", work, rival):
        require_expired(store, OF_ALL)


@pytest.mark.parametrize(("number", "table"), [(1, "samples"), (2, "rollup_1m")])
def test_a_move_that_begins_while_samples_are_deleted_shows_none_of_them(tables, number, table):
    """Just before the commit to the table."""
    write, left = Table.write_next, number

    def written(self, *args, **given):
        nonlocal left
        left -= 1
        if not left:
            Table.write_next = write
            move(tables.store)
        return write(self, *args, **given)

    Table.write_next = written
    try:
        wanted = Wanted(('up{host="a"}',), BEGIN, BEGIN + HOUR_MS, by="test")
        execute(Deletion(tables.store, wanted), tables.store, NOW)
    finally:
        Table.write_next = write

    bounds = Bounds(BEGIN, BEGIN + HOUR_MS, series_ids=np.array([A.series_id]))
    assert Table(tables.store.colder, table).version > 1, "something came, and went"
    for root in tables.store.roots():
        assert snapshot(root, table).scan(bounds).num_rows == 0
