from __future__ import annotations

from dataclasses import replace

import pytest

from varve.model.errors import Conflict, NeedsOperator
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table


def times(store):
    return sorted(snapshot(store, "samples").scan(Bounds()).column("ts").to_pylist())


def test_a_commit_stores_its_rows_positions_and_metadata_in_one_version(bench):
    version = commit(
        bench.table(),
        [bench.file([1, 2]), bench.file([3])],
        transactions={"bulk:t:0": Step(None, 3), "complete:bulk": Step(None, 9)},
        metadata={"in": 3},
    )

    (entry,) = entries(bench.store, "samples", version - 1, version)
    assert entry.positions == {"bulk:t:0": 3, "complete:bulk": 9}
    assert entry.metadata == {"in": 3}
    assert len(entry.adds) == 2
    assert times(bench.store) == [1, 2, 3]
    assert bench.table().positions() == entry.positions


def test_a_stale_handle_commits_from_the_newest_version(bench):
    stale, other = bench.table(), bench.table()
    for i in range(3):
        commit(other, [bench.file([i])], transactions={"a": Step(i - 1 if i else None, i)})

    commit(stale, [bench.file([3])], transactions={"b": Step(None, 0)})

    assert times(bench.store) == [0, 1, 2, 3]


@pytest.mark.parametrize("step", [Step(None, 5), Step(3, 5), Step(4, 4), Step(6, 6)])
def test_work_computed_from_another_position_is_refused_and_nothing_written(bench, step):
    table = bench.table()
    commit(table, [], transactions={"a": Step(None, 5)})

    with pytest.raises(Conflict, match="a is at 5"):
        commit(table, [bench.file([1])], transactions={"a": step, "b": Step(None, 1)})

    assert table.version == 1
    assert times(bench.store) == []
    assert bench.table().position("b") is None


def test_a_rival_between_reading_and_writing_is_seen(bench, monkeypatch):
    table, rival = bench.table(), bench.table()
    commit(table, [], transactions={"a": Step(None, 5)})
    files = [bench.file([1]), bench.file([2])]
    plain = Store.put_if_absent

    def overtaken(self, *args):
        monkeypatch.setattr(Store, "put_if_absent", plain)
        commit(rival, [files[1]], transactions={"a": Step(5, 5)})
        return plain(self, *args)

    monkeypatch.setattr(Store, "put_if_absent", overtaken)

    with pytest.raises(Conflict, match="moved a"):
        commit(table, [files[0]], transactions={"a": Step(5, 6)})
    assert times(bench.store) == [2]


def test_a_rival_about_other_work_only_delays(bench, monkeypatch):
    table, rival = bench.table(), bench.table()
    files = [bench.file([1]), bench.file([2])]
    plain = Store.put_if_absent

    def overtaken(self, *args):
        monkeypatch.setattr(Store, "put_if_absent", plain)
        commit(rival, [files[1]], transactions={"b": Step(None, 1)})
        return plain(self, *args)

    monkeypatch.setattr(Store, "put_if_absent", overtaken)

    assert commit(table, [files[0]], transactions={"a": Step(None, 6)}) == 2
    assert times(bench.store) == [1, 2]


def test_work_that_relies_on_a_position_is_refused_once_it_has_moved(bench, monkeypatch):
    table, rival = bench.table(), bench.table()
    plain, relied_on = Store.put_if_absent, {"trim": None}

    def overtaken(self, *args):
        monkeypatch.setattr(Store, "put_if_absent", plain)
        commit(rival, [], transactions={"trim": Step(None, 0)})
        return plain(self, *args)

    for n in range(2):
        commit(
            (table, rival)[n],
            [bench.file([n])],
            transactions={f"a{n}": Step(None, 1)},
            unmoved=relied_on,
        )
    monkeypatch.setattr(Store, "put_if_absent", overtaken)
    for _ in range(2):  # moved meanwhile, and before
        with pytest.raises(Conflict, match="trim"):
            commit(table, [bench.file([2])], transactions={"a": Step(None, 1)}, unmoved=relied_on)

    assert times(bench.store) == [0, 1]
    assert bench.table().position("a") is None


def test_a_commit_whose_answer_was_lost_is_known_to_have_arrived(bench, monkeypatch):
    plain = Store.put_if_absent

    def lost(self, *args):
        plain(self, *args)
        raise OSError("connection reset")

    monkeypatch.setattr(Store, "put_if_absent", lost)
    table = bench.table()

    assert commit(table, [bench.file([1])], transactions={"a": Step(None, 1)}) == 1
    assert table.position("a") == 1
    assert times(bench.store) == [1]


def test_a_commit_sent_twice_by_the_client_underneath_counts_once(bench, monkeypatch):
    plain = Store.put_if_absent
    monkeypatch.setattr(
        Store, "put_if_absent", lambda self, *args: plain(self, *args) and plain(self, *args)
    )

    assert commit(bench.table(), [bench.file([1])], transactions={"a": Step(None, 1)}) == 1
    assert times(bench.store) == [1]


def test_a_failing_storage_is_an_error_and_the_plan_starts_from_the_table(bench, monkeypatch):
    def fails(self, *args):
        raise OSError("disk full")

    table = bench.table()
    with monkeypatch.context() as broken:
        broken.setattr(Store, "put_if_absent", fails)
        with pytest.raises(OSError, match="disk full"):
            commit(table, [bench.file([1])], transactions={"a": Step(None, 1)})

    commit(table, [bench.file([1])], transactions={"a": Step(table.position("a"), 1)})
    assert times(bench.store) == [1]


def test_a_commit_must_name_its_work(bench):
    with pytest.raises(ValueError, match="name its transaction"):
        commit(bench.table(), [bench.file([1])], transactions={})


def test_a_position_never_moves_back():
    with pytest.raises(ValueError, match="forward"):
        Step(5, 4)


def test_files_that_are_not_of_the_table_are_refused(bench):
    good = bench.file([1, 2])
    wrong = [
        replace(good, table="series"),
        replace(good, schema="0" * 16),
        replace(good, rows=0),
        replace(good, minimum={"series_id": 1}),
        replace(good, minimum={"series_id": 1, "ts": 3}),
        replace(good, nulls={"series_id": 0, "ts": 1}),
    ]
    for file in wrong:
        with pytest.raises(ValueError, match="part-"):
            commit(bench.table(), [file], transactions={"a": Step(None, 1)})
    with pytest.raises(ValueError, match="twice"):
        commit(bench.table(), [good, good], transactions={"a": Step(None, 1)})


def test_a_rewrite_replaces_files_and_says_that_no_row_is_new(bench):
    table = bench.table()
    files = [bench.file([1]), bench.file([2])]
    commit(table, files, transactions={"a": Step(None, 1)})

    version = rewrite(table, [bench.file([1, 2])], [Removal(f.path, f.size) for f in files])

    (entry,) = entries(bench.store, "samples", version - 1, version)
    assert (entry.adds, len(entry.replacements), len(entry.removes)) == ((), 1, 2)
    assert entry.positions == {"rewrite:samples": 0}
    assert times(bench.store) == [1, 2]


def test_a_rewrite_of_a_file_that_is_gone_is_refused(bench):
    table = bench.table()
    file = bench.file([1])
    commit(table, [file], transactions={"a": Step(None, 1)})
    rewrite(table, [], [Removal(file.path, file.size, rows_disappear=True)])

    with pytest.raises(Conflict, match="no longer live"):
        rewrite(bench.table(), [bench.file([1])], [Removal(file.path, file.size)])

    assert times(bench.store) == []


def test_a_release_ahead_of_the_table_says_what_to_do(bench, monkeypatch):
    table = Table(bench.store, "samples")
    file = bench.file([1])
    shorter = {n: f for n, f in table.columns.items() if n != "value"}
    monkeypatch.setattr(Table, "columns", property(lambda self: shorter))

    with pytest.raises(NeedsOperator, match="no column value"):
        commit(table, [file], transactions={"a": Step(None, 1)})
