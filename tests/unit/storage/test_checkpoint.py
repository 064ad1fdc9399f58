from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.model.errors import NeedsOperator
from varve.storage import checkpoint, state
from varve.storage.bounds import Bounds
from varve.storage.checkpoint import CHECKPOINT_INTERVAL, KEPT, LONGEST_INTERVAL, Growth
from varve.storage.checkpoint_file import read
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.log import LogEntry, encode, file_name, list_versions
from varve.storage.snapshot import Follower, snapshot
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


@pytest.fixture(autouse=True)
def _warn_anew() -> None:
    """Each test is a process of its own as to what has been logged once."""
    state._warn.cache_clear()
    checkpoint._warn.cache_clear()


def actions(path: Path, name: str) -> list[dict]:
    return [row[name] for row in pq.read_table(path).to_pylist() if row[name] is not None]


# When, which, and what is in it.


def test_small_tables_have_a_checkpoint_every_hundred_versions_and_keep_the_newest(bench):
    bench.grow(5 * CHECKPOINT_INTERVAL + 5)

    assert checkpoint.list_versions(bench.store, "samples") == [299, 399, 499]
    assert checkpoint.read_hint(bench.store, "samples") == checkpoint.Hint(499, (299, 399))
    assert list_versions(bench.store, "samples") == list(range(506))
    bench.log(450).unlink()
    assert bench.table().position("a") == 505


def test_checkpoints_cost_no_more_than_the_log_they_spare():
    """A table of many files, of which some are added a commit: for a week, a commit a second."""
    files, written, logged, now_ms = 50_000, 0, 0, 0
    growth, longest, last = Growth(), 0, -1
    for version in range(7 * 86_400):
        now_ms += 1_000
        files += version % 10 == 0
        growth.add(LogEntry(version, size=600, timestamp_ms=now_ms))
        logged += 600 + checkpoint._BYTES_PER_VERSION
        longest = max(longest, growth.versions)
        if growth.is_due(now_ms):
            written += 60 * files
            growth, last = Growth(60 * files), version

    assert written <= 2 * logged + 60 * files
    assert longest == LONGEST_INTERVAL
    assert 7 * 86_400 - last <= LONGEST_INTERVAL


def test_a_checkpoint_is_due_by_cost_by_age_and_once_one_is_damaged():
    def growth(versions: int, checkpoint_size: int, **known) -> Growth:
        grown = Growth(checkpoint_size, **known)
        for version in range(versions):
            grown.add(LogEntry(version, size=100, timestamp_ms=1_000))
        return grown

    assert not growth(99, 0).is_due(2_000)
    assert growth(100, 0).is_due(2_000)
    assert not growth(100, 5_000_000).is_due(2_000)
    assert growth(100, 5_000_000).is_due(3_601_000)
    assert growth(400, 1 << 40).is_due(2_000)
    assert growth(1, 5_000_000, is_damaged=True).is_due(2_000)


def test_another_writer_of_the_table_need_not_write_it_again(bench, monkeypatch):
    other = bench.table()
    bench.grow(150)
    written = []
    plain = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *a: (written.append(a[2]), plain(*a)))
    other.refresh()

    commit(other, [], transactions={"b": Step(None, 1)})
    bench.settle()

    assert written == []
    assert other._state.growth.versions == 0


paths = st.integers(0, 9)
histories = st.lists(
    st.tuples(st.lists(paths, max_size=3), st.lists(paths, max_size=3)), max_size=9
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sets(st.integers(0, 9)), st.booleans())
def test_a_checkpoint_is_what_the_log_up_to_it_comes_to(history, written_at, is_foreign):
    with TemporaryDirectory() as root:
        store = Store(root)
        create_tables(store, ("samples",))
        for version, (removed, added) in enumerate(history, 1):
            body = encode(f"{version}", "WRITE", list(history_actions(removed, added, version)))
            assert store.put_if_absent("samples", file_name(version), body)
            if version in written_at:
                if is_foreign:
                    DeltaTable(store.uri("samples"), version=version).create_checkpoint()
                else:
                    checkpoint.write(store, "samples", version)
        newest = len(history)
        from_log = load_from_log(store)

        checkpoint.write(store, "samples", newest)

        if newest or 0 in written_at:
            entry = read(store, "samples", newest, files=True)
            assert sorted(entry.adds, key=repr) == sorted(from_log.files.values(), key=repr)
            assert entry.positions == from_log.positions
            assert entry.table_metadata["schemaString"] == from_log.table_metadata["schemaString"]
            assert entry.table_metadata["configuration"] == checkpoint.PROPERTIES
            files = DeltaTable(store.uri("samples")).file_uris()
            assert sorted(Path(f).name for f in files) == sorted(from_log.files)


def history_actions(removed: list[int], added: list[int], version: int):
    """Of a file at most one action, as the protocol wants it; some paths are escaped."""
    yield {"txn": {"appId": f"a{version % 3}", "version": version}}
    for n in sorted(set(removed) | set(added)):
        path = f"p%C3%A4rt%20{n}.parquet" if n % 2 else f"part-{n}.parquet"
        if n in added:
            stats = {
                "numRecords": n,
                "minValues": {"ts": version},
                "maxValues": {"ts": version + n},
            }
            yield {
                "add": {
                    "path": path,
                    "partitionValues": {},
                    "size": n + 1,
                    "modificationTime": version,
                    "dataChange": True,
                    "stats": json.dumps(stats),
                }
            }
        else:
            now_ms = int(time.time() * 1000)
            yield {"remove": {"path": path, "deletionTimestamp": now_ms, "dataChange": True}}


def load_from_log(store: Store) -> state.State:
    """The state without any checkpoint."""
    whole = state.State(store.uri("samples"), files={})
    from varve.storage.log import newer

    for entry in newer(store, "samples", -1):
        whole.apply(entry)
    return whole


def test_removed_files_stay_named_for_as_long_as_the_table_says(bench):
    table = bench.table()
    files = [bench.file([i]) for i in range(3)]
    commit(table, files, transactions={"a": Step(None, 0)})
    hour_ms, now_ms = 3_600_000, int(time.time() * 1000)
    for file, hours in zip(files[:2], (11, 13), strict=True):
        removed_ms = now_ms - hours * hour_ms
        remove = {"path": file.path, "deletionTimestamp": removed_ms, "dataChange": True, "size": 7}
        assert table.write_next("WRITE", [{"remove": remove}])

    checkpoint.write(bench.store, "samples", table.version)

    path = bench.checkpoint(table.version)
    assert [r["path"] for r in actions(path, "remove")] == [files[0].path]
    assert [a["path"] for a in actions(path, "add")] == [files[2].path]


@pytest.mark.parametrize(
    ("text", "hours"),
    [("interval 2 days", 48), ("interval 1 week", 168), ("interval 90 minutes", 1.5), ("?", 168)],
)
def test_the_retention_of_a_table_is_read_as_other_programs_write_it(text, hours):
    from varve.storage.checkpoint_file import RETENTION, _retention_ms

    assert _retention_ms({RETENTION: text}) == hours * 3_600_000
    assert _retention_ms({}) == 168 * 3_600_000


def test_what_was_removed_before_a_checkpoint_stays_removed(bench):
    table = bench.table()
    file = bench.file([1])
    commit(table, [file, bench.file([2])], transactions={"b": Step(None, 1)})
    rewrite(table, [], [Removal(file.path, file.size, rows_disappear=True)])
    bench.grow(100)

    assert checkpoint.list_versions(bench.store, "samples") == [99]
    assert snapshot(bench.store, "samples").scan(Bounds()).column("ts").to_pylist() == [2]


def test_tables_of_earlier_releases_get_the_properties_and_lose_old_checkpoints(bench):
    old = {"delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "50"}
    table = bench.table()
    assert table.set_metadata({"configuration": old})
    for version in range(2, 6):
        commit(table, [], transactions={"a": Step(table.position("a"), version)})
        DeltaTable(bench.store.uri("samples")).create_checkpoint()

    create_tables(bench.store, ("samples",))
    table.refresh()
    checkpoint.write(bench.store, "samples", table.version)

    assert table.properties == checkpoint.PROPERTIES | old
    assert checkpoint.list_versions(bench.store, "samples") == [4, 5, 6]
    create_tables(bench.store, ("samples",))
    assert bench.table().version == 6


# Faults.


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def zero_from(share: float) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        body = bytearray(path.read_bytes())
        start = int(len(body) * share)
        body[start:] = bytes(len(body) - start)
        path.write_bytes(body)

    return damage


def flip_schema(path: Path) -> None:
    """Damages the table's schema itself. Its bounds, which the page repeats, nobody reads."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    (schema,) = (c for c in columns if c.path_in_schema == "metaData.schemaString")
    end = schema.dictionary_page_offset + schema.total_compressed_size
    body = bytearray(path.read_bytes())
    for at in range(end - 40, end):
        body[at] ^= 0xFF
    path.write_bytes(body)


def empty_of_actions(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 0), path)


DAMAGE = {
    "empty": cut(0),
    "cut early": cut(0.1),
    "cut in the middle": cut(0.5),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": zero_from(0),
    "zeroed from the middle": zero_from(0.5),
    "a block flipped": flip_schema,
    "missing": Path.unlink,
    "without actions": empty_of_actions,
    "text": lambda path: path.write_text("PAR1 is not what this is PAR1"),
}


def filled(bench) -> Table:
    """Checkpoints at 99 and 199, files on both sides of them."""
    return bench.fill(230, [1, 90, 150, 220])


def assert_opens(bench) -> None:
    assert bench.table().positions() == {"a": 230, "b": 220}
    now = snapshot(bench.store, "samples")
    assert now.version == 230
    assert sorted(now.scan(Bounds()).column("ts").to_pylist()) == [1, 90, 150, 220]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_said_once(bench, damage, caplog):
    filled(bench)
    DAMAGE[damage](bench.checkpoint(199))
    bench.log(50).unlink()  # so it is the older checkpoint that stands in

    for _ in range(3):
        assert_opens(bench)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(bench.checkpoint(199)) in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_a_sound_checkpoint_the_whole_log_stands_in(bench, damage):
    filled(bench)
    for version in (99, 199):
        DAMAGE[damage](bench.checkpoint(version))

    assert_opens(bench)


@pytest.mark.parametrize("damage", DAMAGE)
def test_with_neither_the_file_and_what_to_do_are_named(bench, damage):
    filled(bench)
    for version in (99, 199):
        DAMAGE[damage](bench.checkpoint(version))
    bench.log(0).unlink()

    with pytest.raises(NeedsOperator, match=r"0199\.checkpoint\.parquet .*restore that file"):
        bench.table()


def test_a_log_without_its_beginning_and_without_checkpoints_is_no_new_table(bench):
    bench.fill(20, [])
    bench.log(0).unlink()

    with pytest.raises(NeedsOperator, match="log begins with version 1 .*restore the folder"):
        create_tables(bench.store, ("samples",))
    with pytest.raises(NeedsOperator, match="version 5 has expired"):
        snapshot(bench.store, "samples", 5)


def test_a_table_that_a_rival_creates_while_it_is_looked_for_is_there(tmp_path, monkeypatch):
    store, plain = Store(str(tmp_path)), Store.exists

    def overtaken(self, *args):
        found = plain(self, *args)
        monkeypatch.setattr(Store, "exists", plain)
        create_tables(store, ("samples",))
        return found

    monkeypatch.setattr(Store, "exists", overtaken)

    assert load(store, "samples").version == 0


def test_a_hole_in_the_log_after_the_sound_checkpoint_is_named_too(bench):
    filled(bench)
    bench.checkpoint(199).write_bytes(b"")
    bench.log(150).unlink()

    with pytest.raises(NeedsOperator, match=r"0199\.checkpoint\.parquet .*restore that file"):
        snapshot(bench.store, "samples")


HINTS = {
    "missing": None,
    "empty": "",
    "zeroed": "\0" * 80,
    "cut": '{"version":19',
    "garbage": "[1, 2]",
    "a number": "7",
    "null": "null",
    "without a version": '{"size": 3}',
    "of a version that is not there": '{"version": 777, "size": 3}',
    "of an old version": '{"version": 99, "size": 3}',
    "of several parts": '{"version": 199, "size": 3, "parts": 2}',
    "with odd tags": '{"version": 199, "tags": {"varve.others": "x"}}',
    "with wrong others": '{"version": 199, "tags": {"varve.others": "[5, 7]"}}',
}


@pytest.mark.parametrize("hint", HINTS)
def test_a_damaged_pointer_to_the_checkpoint_costs_a_listing(bench, hint, caplog):
    filled(bench)
    path = bench.log("_last_checkpoint")
    if HINTS[hint] is None:
        path.unlink()
    else:
        path.write_text(HINTS[hint])
    bench.log(50).unlink()

    assert_opens(bench)

    quiet = {"missing", "of an old version", "of several parts", "with wrong others"}
    assert len({r.getMessage() for r in caplog.records}) == (hint not in quiet)
    table = bench.grow(400)
    assert checkpoint.read_hint(bench.store, "samples").version >= 330
    assert table.position("b") == 220


def test_checkpoints_in_parts_by_another_program_are_left_alone(bench):
    filled(bench)
    whole = bench.checkpoint(199)
    for part in (1, 2):
        name = f"{199:020d}.checkpoint.{part:010d}.{2:010d}.parquet"
        bench.log(name).write_bytes(whole.read_bytes())
    bench.log(f"{199:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json").write_text("{}")
    whole.unlink()

    assert_opens(bench)


def test_a_past_version_is_read_from_an_older_checkpoint_if_its_own_is_damaged(bench):
    filled(bench)
    bench.checkpoint(199).write_bytes(b"")
    bench.log(20).unlink()

    times = snapshot(bench.store, "samples", 210).scan(Bounds()).column("ts").to_pylist()

    assert sorted(times) == [1, 90, 150]


def test_the_next_commit_writes_a_sound_checkpoint_in_place_of_a_damaged_one(bench):
    filled(bench)
    bench.checkpoint(199).write_bytes(b"")

    table = bench.grow(231)

    assert checkpoint.read_hint(bench.store, "samples").version == 231
    bench.log(150).unlink()
    assert bench.table().positions() == table.positions()


def test_a_checkpoint_that_cannot_be_written_harms_no_commit(bench, caplog):
    table = bench.table()
    bench.checkpoint(99).mkdir()

    for version in range(1, 121):
        commit(table, [], transactions={"a": Step(table.position("a"), version)})
        bench.settle()

    assert table.version == 120
    assert "no checkpoint at version 99" in caplog.text
    assert not [p for p in bench.log(0).parent.iterdir() if p.suffix == ".tmp"]
    bench.grow(121)
    assert checkpoint.read_hint(bench.store, "samples").version == 121


def test_readers_open_the_table_while_checkpoints_are_written_and_deleted(bench, caplog):
    table = filled(bench)
    done, wrong = threading.Event(), []

    def open_it() -> None:
        while not done.is_set():
            now = load(bench.store, "samples")
            if len(now.files) != 4 or now.positions["b"] != 220:
                wrong.append(now)

    readers = [threading.Thread(target=open_it) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(40):
        commit(table, [], transactions={"a": Step(table.position("a"), table.version + 1)})
        checkpoint.write(bench.store, "samples", table.version)
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert caplog.text == ""
    assert len(checkpoint.list_versions(bench.store, "samples")) == KEPT


def test_a_follower_whose_log_has_gone_starts_over_from_a_sound_checkpoint(bench):
    follower = Follower(bench.store, "samples")
    filled(bench)
    bench.checkpoint(199).write_bytes(b"")
    for version in range(90):
        bench.log(version).unlink()

    now = follower.refresh()

    assert sorted(f.minimum["ts"] for f in now.files) == [1, 90, 150, 220]
