"""Copies of the tables that are taken while all is written are whole, and go on to the same end:
by hand in the order that docs/operations.md gives, and by `varve backup`.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tests import faulty_s3
from tests.line import Line
from tests.unit.ingest.messages import as_json, record
from tests.unit.maintenance.dying import Killed
from varve.cli.main import main
from varve.maintenance import backup as backups
from varve.maintenance.backup import TABLE_ORDER, list_backups, take_backup
from varve.maintenance.backup_pruning import SPARED_MS, prune
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.restore import choose, restore_backup
from varve.model.clock import ManualClock
from varve.model.errors import BadRequest, NeedsOperator, TemporaryError
from varve.model.schema import TABLES
from varve.model.window import DAY_MS, TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
MINUTE_MS = 60_000
START_MS = 1_795_338_000_000
MESSAGES = 40


def ingest(line):
    """Message number n, whenever and by whomever it is read: a sample of now, a late one, a record
    that is refused. Every tenth has a new series.
    """
    number = line.next
    ts = START_MS + number * MINUTE_MS
    line.clock.at_ms = ts
    now = record(ts - 1, 1.0, series=str(number // 10))
    late = record(ts - 17 * MINUTE_MS, float(number), series="late")
    line.ingest(as_json(now, late, {"metric": "bad", "timestamp": ts}))


def finish(line, messages=MESSAGES):
    while line.next < messages:
        ingest(line)
    line.roll_up()


def write_on(root):
    """What a process of its own does until it is killed."""
    line = Line(root, START_MS)
    while True:
        ingest(line)
        if line.next % 3 == 0:
            line.roll_up()
        if line.next % 7 == 0:
            execute(Compaction(line.store), line.store, line.clock.now_ms())


def rows_of(line, table):
    return snapshot(line.store, table).scan(Bounds())


def rolled_up(line, tier):
    """The newest revision of each row."""
    return {
        (row["series_id"], row["window_end"]): (row["count"], row["sum"], row["last_value"])
        for row in rows_of(line, tier.table).sort_by("revision").to_pylist()
    }


def require_same_end(one, other):
    """Equal samples, rollups and rejects, nothing twice, and accounts that add up."""
    messages = other.next
    assert one.next == messages
    assert sorted(rows_of(one, "samples").to_pylist(), key=str) == sorted(
        rows_of(other, "samples").to_pylist(), key=str
    )
    for tier in TIERS:
        assert rolled_up(one, tier) == rolled_up(other, tier)
    for line in (one, other):
        refused = [(r["partition"], r["offset"]) for r in rows_of(line, "quarantine").to_pylist()]
        assert sorted(set(refused)) == [(0, number) for number in range(messages)]
        version = Table(line.store, "samples").version
        said = [
            e.metadata for e in entries(line.store, "samples", -1, version) if "in" in e.metadata
        ]
        assert sum(account["in"] for account in said) == 3 * messages
        for account in said:
            parts = account["stored"], account["merged"], *account["rejected"].values()
            assert account["in"] == sum(parts)


def _order():
    text = OPERATIONS.read_text()
    return re.search(r"^    (rollup_1d .*)$", text, re.MULTILINE)[1].split()


def _copy(table, source, target):
    """The log, then the files, as documented; only what the copied log has may be needed."""
    shutil.copytree(source / table / "_delta_log", target / table / "_delta_log")
    shutil.copytree(
        source / table, target / table, dirs_exist_ok=True, ignore=lambda *_: ["_delta_log"]
    )


def test_a_copy_in_the_documented_order_goes_on_to_the_same_end(tmp_path):
    line = Line(str(tmp_path / "tables"), START_MS)
    for number in range(20):
        ingest(line)
        if number % 3 == 0:
            line.roll_up()
    for table in _order():
        _copy(table, tmp_path / "tables", tmp_path / "copy")
        ingest(line)
        line.roll_up()
    finish(line)
    assert {tier.table for tier in TIERS} | {"samples", "series", "quarantine", "repairs"} == set(
        _order()
    )

    copy = Store(str(tmp_path / "copy"))
    samples, quarantine = Table(copy, "samples"), Table(copy, "quarantine")
    # Nothing in it speaks of what is not there.
    ids = snapshot(copy, "series").scan(Bounds())["series_id"]
    assert pc.all(pc.is_in(snapshot(copy, "samples").scan(Bounds())["series_id"], ids)).as_py()
    assert quarantine.position(positions.rejects("bulk")) >= samples.position(
        positions.rejects("bulk")
    )
    for below, above in zip(("samples", *(t.table for t in TIERS)), TIERS, strict=False):
        read = [
            entry.metadata["version"]
            for entry in entries(copy, above.table, 0, Table(copy, above.table).version)
            if "version" in entry.metadata
        ]
        assert max(read, default=0) <= Table(copy, below).version

    restored = Line(str(tmp_path / "copy"), START_MS)
    assert 20 < restored.next < MESSAGES
    finish(restored)

    require_same_end(restored, line)


@pytest.fixture
def line(tmp_path):
    line = Line(str(tmp_path / "tables"), START_MS)
    for _ in range(6):
        ingest(line)
    line.roll_up()
    return line


@pytest.fixture
def target(tmp_path):
    return Store(str(tmp_path / "backups"))


def restored(target, root):
    store = Store(str(root))
    restore_backup(target, store, choose(target, None))
    return Line(str(root), START_MS)


def test_every_table_of_the_catalogue_has_its_place_in_the_order():
    assert set(TABLE_ORDER) == set(TABLES)
    assert [table for table in TABLE_ORDER if table in set(_order())] == _order()


def test_a_backup_is_of_one_moment_and_the_next_copies_only_what_is_new(line, target, tmp_path):
    first = take_backup(line.store, target, line.clock)
    assert first.backup.is_one_moment
    assert first.copied_files == first.backup.files
    ingest(line)

    second = take_backup(line.store, target, line.clock)

    assert second.copied_files == second.backup.files - first.backup.files == 2
    assert [b.backup_id for b in list_backups(target)] == [
        first.backup.backup_id,
        second.backup.backup_id,
    ]
    copy = restored(target, tmp_path / "copy")
    for name in TABLES:
        held, kept = Table(line.store, name, files=True), Table(copy.store, name, files=True)
        assert (held.version, held.positions()) == (kept.version, kept.positions())
        assert list(held.live_files().values()) == list(kept.live_files().values())
    finish(line, 12)
    finish(copy, 12)
    require_same_end(copy, line)


def test_an_older_backup_is_restored_as_it_was(line, target, tmp_path):
    before = take_backup(line.store, target, line.clock).backup
    version = Table(line.store, "samples").version
    ingest(line)
    execute(Compaction(line.store), line.store, line.clock.now_ms())
    take_backup(line.store, target, line.clock)

    store = Store(str(tmp_path / "copy"))
    restore_backup(target, store, choose(target, before.backup_id))

    assert Table(store, "samples").version == version
    assert Line(store.root, START_MS).next == 6


@contextlib.contextmanager
def counting(dies_at=None):
    """Counts the files that are written; the process dies instead of writing one of them."""
    put, counted = Store.put, []

    def counts(self, *args):
        counted.append(args[:2])
        if len(counted) == dies_at:
            raise Killed
        put(self, *args)

    Store.put = counts
    try:
        yield counted
    finally:
        Store.put = put


def test_a_backup_and_a_restore_that_die_are_taken_up_again(line, target, tmp_path):
    with counting() as written:
        take_backup(line.store, Store(str(tmp_path / "other")), line.clock)
    for share in (0.2, 0.5):
        with pytest.raises(Killed), counting(int(share * len(written))):
            take_backup(line.store, target, line.clock)
        assert list_backups(target) == []
    take_backup(line.store, target, line.clock)
    copy = Store(str(tmp_path / "copy"))
    for share in (0.2, 0.6):
        with pytest.raises(Killed), counting(int(share * len(written))):
            restore_backup(target, copy, choose(target, None))
        with pytest.raises(NeedsOperator, match="varve restore"):
            create_tables(copy)

    gone_on = restored(target, tmp_path / "copy")

    finish(line, 12)
    finish(gone_on, 12)
    require_same_end(gone_on, line)


def test_a_backup_goes_to_a_bucket_that_fails_and_is_restored_from_it(line, tmp_path, monkeypatch):
    monkeypatch.setattr(faulty_s3, "HANG_S", 0.2)
    settings, copy = tmp_path / "varve.toml", tmp_path / "copy"
    with faulty_s3.FaultyS3() as s3:
        options = ", ".join(f'{name} = "{value}"' for name, value in s3.options.items())
        settings.write_text(f"[storage]\nbackup_options = {{{options}}}\n")
        bucket = f"{s3.root}-backups"
        s3.failing = 0.05

        for command, home in (("backup", tmp_path), ("restore", copy)):
            arguments = [command, bucket, "--home", str(home), "--config", str(settings)]
            begun_anew_until_done(partial(main, arguments))

        assert s3.faults.total() > 5
    gone_on = Line(str(copy / "tables"), START_MS)
    finish(line, 12)
    finish(gone_on, 12)
    require_same_end(gone_on, line)


def begun_anew_until_done(command):
    for _ in range(20):
        if command() == 0:
            return
    pytest.fail("it fails again and again")


def test_a_file_that_was_cut_off_is_copied_again(line, target, tmp_path):
    taken = take_backup(line.store, target, line.clock).backup
    saved = next(s for s in taken.tables if s.table == "samples")
    folder = Path(saved.store(target).uri("samples"))
    cut = next(folder.glob("*.parquet"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-1])
    with pytest.raises(NeedsOperator, match="is damaged"):
        restored(target, tmp_path / "broken")

    again = take_backup(line.store, target, line.clock)

    assert again.copied_files == 1
    assert cut.read_bytes() == whole


def test_a_file_that_goes_meanwhile_is_told_and_the_next_backup_is_whole(
    line, target, monkeypatch, tmp_path
):
    gone = next(Path(line.store.uri("samples")).glob("*.parquet"))
    choose_versions = backups._versions

    def then_loses(store):
        chosen = choose_versions(store)
        gone.rename(f"{gone}.away")
        return chosen

    monkeypatch.setattr(backups, "_versions", then_loses)
    with pytest.raises(TemporaryError, match="begin again"):
        take_backup(line.store, target, line.clock)
    monkeypatch.undo()
    Path(f"{gone}.away").rename(gone)

    again = take_backup(line.store, target, line.clock)

    assert 1 <= again.copied_files <= again.backup.files  # the others were on their way, or not
    assert restored(target, tmp_path / "copy").next == 6


def test_pruning_leaves_the_newest_backups_whole_and_deletes_what_only_others_need(
    line, target, tmp_path
):
    for _ in range(3):
        take_backup(line.store, target, line.clock)
        for _ in range(3):
            ingest(line)
        execute(Compaction(line.store), line.store, line.clock.now_ms() + DAY_MS)
    take_backup(line.store, target, line.clock)
    now_ms = int(time.time() * 1000)
    assert prune(target, 4, now_ms + 2 * SPARED_MS) == 0

    assert prune(target, 1, now_ms) == 0  # young files may be of a backup that is under way
    assert len(list_backups(target)) == 1
    assert prune(target, 1, now_ms + 2 * SPARED_MS) > 0
    assert prune(target, 1, now_ms + 2 * SPARED_MS) == 0

    copy = restored(target, tmp_path / "copy")
    finish(line, 20)
    finish(copy, 20)
    require_same_end(copy, line)


def test_files_of_colder_roots_are_restored_to_such_roots(tmp_path, target):
    cold = Store(str(tmp_path / "cold"))
    hot = Store(str(tmp_path / "tables"), colder=cold)
    create_tables(hot)
    create_tables(cold, ("samples",))
    take_backup(hot, target, ManualClock(START_MS))

    with pytest.raises(NeedsOperator, match="set storage.cold_root"):
        restore_backup(target, Store(str(tmp_path / "copy")), choose(target, None))

    store = Store(str(tmp_path / "copy"), colder=Store(str(tmp_path / "copy-cold")))
    restore_backup(target, store, choose(target, None))
    assert Table(store.colder, "samples").id == Table(cold, "samples").id


def test_it_refuses_what_would_mix_or_overwrite(line, target, tmp_path):
    with pytest.raises(BadRequest, match="no backups"):
        choose(target, None)
    taken = take_backup(line.store, target, line.clock).backup
    with pytest.raises(BadRequest, match=f"there are {taken.backup_id}"):
        choose(target, "20200101T000000Z")
    with pytest.raises(NeedsOperator, match="has tables already"):
        restore_backup(target, line.store, taken)
    other = Store(str(tmp_path / "others"))
    create_tables(other)
    with pytest.raises(NeedsOperator, match="backups of other tables"):
        take_backup(other, target, line.clock)
    later = json.dumps(dataclasses.asdict(taken) | {"format": 2, "made_by": "9.0"})
    target.put(backups.BACKUPS, "29991231T000000Z.json", later.encode())
    with pytest.raises(NeedsOperator, match=r"written by Varve 9\.0"):
        list_backups(target)


def wait_for(condition, deadline_s=120.0):
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_with_writers_that_go_on_a_kill_9_of_both_and_a_restore_the_end_is_the_same(
    tmp_path, capsys
):
    home, target = tmp_path / "home", tmp_path / "backups"
    code = f"from {__name__} import write_on; write_on({str(home / 'tables')!r})"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        wait_for(lambda: len(list(home.glob("tables/samples/*.parquet"))) > 10)
        wait_for(lambda: any(home.glob("tables/rollup_5m/*.parquet")))
        command = [sys.executable, "-m", "varve.cli", "backup", str(target), "--home", str(home)]
        taking = subprocess.Popen(command, env=env)
        wait_for(lambda: len(list(target.glob("*/*/*.parquet"))) > 5)
        taking.send_signal(signal.SIGKILL)
        taking.wait()
        assert main(command[3:]) == 0
        assert "backup 2" in capsys.readouterr().out
    finally:
        writer.kill()
        writer.wait()

    copy = tmp_path / "copy"
    assert main(["restore", str(target), "--home", str(copy)]) == 0
    assert "is restored" in capsys.readouterr().out
    lines = [Line(str(folder / "tables"), START_MS) for folder in (copy, home)]
    assert lines[0].next <= lines[1].next
    end = lines[1].next + 5
    for line in lines:
        finish(line, end)
    require_same_end(*lines)
