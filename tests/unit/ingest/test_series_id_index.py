import multiprocessing
import os
import shutil
import time

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.ingest import series_id_index as known_module
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN, RunFolder
from varve.ingest.series_id_index import SeriesIdIndex
from varve.model.errors import NeedsOperator
from varve.model.schema import table_schema
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import file_name
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


def register(store, series):
    """One commit of {id: check}; as the registry's, but of any ids."""
    rows = [
        {"series_id": i, "check": c, "metric": "m", "tags": [], "first_seen": 0, "last_seen": 0}
        for i, c in series.items()
    ]
    table = Table(store, "series")
    held = table.position("registry")
    schema = table_schema("series").arrow
    files = [write_file(store, "series", pa.Table.from_pylist(rows, schema))] if rows else []
    commit(table, files, transactions={"registry": Step(held, (held or 0) + 1)})


def status(known, *keys):
    ids, checks = np.array(keys, np.int64).reshape(-1, 2).T
    return known.status(ids, checks.astype(np.int32)).tolist()


def names(store):
    return sorted(p.name for p in RunFolder(store).path.iterdir() if p.name != "lock")


batches = st.lists(
    st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.integers(-9, 9), max_size=6), max_size=12
)


@settings(max_examples=60)
@given(batches, st.data())
def test_members_are_what_was_registered_first_however_it_was_followed(
    tmp_path_factory, registrations, data
):
    store = Store(str(tmp_path_factory.mktemp("known")))
    create_tables(store, ("series",))
    followers, expected = [SeriesIdIndex(store)], {}
    for batch in registrations:
        fresh = {i: c for i, c in batch.items() if i not in expected}
        register(store, fresh)
        expected |= fresh
        action = data.draw(st.sampled_from(["follow", "join", "wait"]))
        if action == "join":
            followers.append(SeriesIdIndex(store))
        elif action == "follow":
            data.draw(st.sampled_from(followers)).advance()

    for known in [*followers, SeriesIdIndex(store)]:
        known.advance()
        assert len(known) == len(expected)
        assert known.version == Table(store, "series").version
        assert status(known, *expected.items()) == [KNOWN] * len(expected)
        others = [(i, c + 1) for i, c in expected.items()]
        assert status(known, *others) == [CONTESTED] * len(expected)
        strangers = [(i ^ 1, c) for i, c in expected.items() if i ^ 1 not in expected]
        assert status(known, *strangers) == [UNKNOWN] * len(strangers)


def test_series_that_come_one_by_one_are_few_files(store):
    known = SeriesIdIndex(store)
    for n in range(60):
        register(store, {n * 7919 % 1000 - 500: n})
        known.advance()

    assert len(known) == 60
    assert len(names(store)) <= 4


def test_a_large_table_is_read_in_parts_and_an_id_counts_once(store, monkeypatch):
    monkeypatch.setattr(known_module, "_PART", 5)
    expected = {n * 7919 % 1000: n for n in range(40)}
    items = list(expected.items())
    for start in range(0, 40, 4):
        register(store, dict(items[max(start - 2, 0) : start + 4]))

    known = SeriesIdIndex(store)

    assert len(known) == 40
    assert status(known, *items) == [KNOWN] * 40
    assert len(names(store)) == 1


def test_a_later_process_reads_the_files_and_not_the_table(store, monkeypatch):
    register(store, {1: 1, 2: 2})
    SeriesIdIndex(store)
    monkeypatch.setattr(SeriesIdIndex, "_added", lambda *_: pytest.fail("read the table"))

    assert status(SeriesIdIndex(store), (1, 1), (2, 3), (3, 3)) == [KNOWN, CONTESTED, UNKNOWN]


def test_what_a_killed_process_left_is_removed(store):
    register(store, {1: 1})
    SeriesIdIndex(store)
    folder = RunFolder(store).path
    (folder / "0123.tmp").write_bytes(b"half of a file")
    cut = folder / f"{5:020d}-{9:020d}-0.run"
    cut.write_bytes(next(folder.glob("*.run")).read_bytes()[:-3])

    register(store, {2: 2})
    known = SeriesIdIndex(store)

    assert status(known, (1, 1), (2, 2)) == [KNOWN, KNOWN]
    assert not (folder / "0123.tmp").exists()
    assert not cut.exists()


def test_a_damaged_file_is_made_anew(store):
    register(store, {1: 1})
    SeriesIdIndex(store)
    (path,) = RunFolder(store).path.glob("*.run")
    path.write_bytes(path.read_bytes()[:-1])

    assert status(SeriesIdIndex(store), (1, 1)) == [KNOWN]


def test_a_table_put_back_to_an_earlier_state_has_no_series_it_lost(store, tmp_path):
    register(store, {1: 1})
    shutil.copytree(f"{store.root}/series", tmp_path / "backup")
    register(store, {2: 2})
    assert status(SeriesIdIndex(store), (2, 2)) == [KNOWN]

    shutil.rmtree(f"{store.root}/series")
    shutil.copytree(tmp_path / "backup", f"{store.root}/series")
    assert status(SeriesIdIndex(store), (1, 1), (2, 2)) == [KNOWN, UNKNOWN]

    register(store, {3: 3})
    register(store, {4: 4})
    assert status(SeriesIdIndex(store), (2, 2), (3, 3), (4, 4)) == [UNKNOWN, KNOWN, KNOWN]


def test_where_the_log_has_expired_the_live_files_are_read(store, tmp_path):
    known = SeriesIdIndex(store)
    for n in range(4):
        register(store, {n: n})
    DeltaTable(store.uri("series")).create_checkpoint()
    for version in range(4):
        (tmp_path / "tables" / "series" / file_name(version)).unlink()

    known.advance()

    assert status(known, *((n, n) for n in range(4))) == [KNOWN] * 4
    assert status(SeriesIdIndex(store), *((n, n) for n in range(4))) == [KNOWN] * 4


def test_files_that_were_merged_away_serve_those_who_map_them(store):
    register(store, {1: 1})
    early = SeriesIdIndex(store)
    late = SeriesIdIndex(store)
    for n in range(2, 12):
        register(store, {n: n})
        late.advance()

    assert status(early, (1, 1), (11, 11)) == [KNOWN, UNKNOWN]
    early.advance()
    assert status(early, (1, 1), (11, 11)) == [KNOWN, KNOWN]


def test_a_folder_of_another_user_is_refused(store, tmp_path, monkeypatch):
    SeriesIdIndex(store, str(tmp_path / "scratch"))
    monkeypatch.setattr("os.getuid", lambda: 12_345)

    with pytest.raises(NeedsOperator, match="ingest.scratch"):
        SeriesIdIndex(store, str(tmp_path / "scratch"))


def test_folders_that_nothing_has_used_for_long_are_removed(store, tmp_path):
    scratch = tmp_path / "scratch"
    for name, days in (("abandoned", 31), ("in use", 29)):
        (scratch / "known" / name).mkdir(parents=True)
        used = time.time() - days * 86_400
        os.utime(scratch / "known" / name, (used, used))

    SeriesIdIndex(store, str(scratch))

    assert not (scratch / "known" / "abandoned").exists()
    assert (scratch / "known" / "in use").exists()
    assert not (tmp_path / "tables" / "_known").exists()


def test_many_processes_build_and_follow_at_once(store):
    register(store, {n: n for n in range(100)})
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        started = pool.map_async(_follow, [store] * 4)
        for start in range(100, 400, 10):
            register(store, {n: n for n in range(start, start + 10)})
        assert started.get(60) == [400] * 4


def _follow(store):
    known = SeriesIdIndex(store)
    while len(known) < 400:
        known.advance()
        ids = np.arange(len(known))
        assert (known.status(ids, ids.astype(np.int32)) == KNOWN).all()
    return len(known)
