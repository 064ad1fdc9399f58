import itertools
import multiprocessing
from dataclasses import replace

import pytest

from tests.plans import task_plan
from tests.unit.ingest.messages import NOW_MS, as_json, record
from varve.ingest import batch as batch_module
from varve.ingest.batch import IDLE_EVERY_MS, BatchCommitter
from varve.ingest.start_offsets import Start, starts
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.errors import Conflict, NeedsOperator, TemporaryError
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import commit
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

ONE, TWO = Partition("samples", "id-1", 0), Partition("samples", "id-1", 1)


def outcome(store, *values):
    plan = task_plan(store, now_ms=NOW_MS)
    messages = [Message("samples", 0, n, NOW_MS, value) for n, value in enumerate(values)]
    return list(run_task(messages, plan))


def stored(store):
    return sorted(r["ts"] - NOW_MS for r in snapshot(store, "samples").scan(Bounds()).to_pylist())


def quarantined(store):
    return [r["value"] for r in snapshot(store, "quarantine").scan(Bounds()).to_pylist()]


def begin(store, ends=None, *, first=0, partitions=(ONE, TWO)):
    """Where a driver that starts now reads from."""
    table = Table(store, "samples")
    return starts(
        table, "bulk", dict.fromkeys(partitions, first), dict.fromkeys(partitions, ends or 1_000)
    )


def committer(store, **options):
    return BatchCommitter(store, "bulk", begin(store, **options))


def batch(store, *offsets):
    return outcome(store, *(as_json(record(NOW_MS + n)) for n in offsets))


def test_positions_files_and_accounting_are_one_commit(store):
    driver = committer(store)

    values = (as_json(record(), record(), record(NOW_MS + 1)), b"x")

    accounting = driver.commit({ONE: OffsetRange(0, 3)}, outcome(store, *values))

    table = Table(store, "samples")
    (entry,) = entries(store, "samples", table.version - 1, table.version)
    assert entry.positions[ONE.position("bulk")] == 3
    assert TWO.position("bulk") not in entry.positions
    assert entry.metadata.items() >= accounting.items()
    assert accounting == {
        "query": "bulk",
        "batch": 0,
        "offsets": {"samples-0": [0, 3]},
        "gaps": {},
        "tombstones": 0,
        "messages": 2,
        "bytes": sum(map(len, values)),
        "in": 4,
        "stored": 2,
        "merged": 1,
        "rejected": {"malformed": 1},
        "files": 2,
        "written_bytes": sum(
            file.size
            for name in ("samples", "quarantine")
            for file in Table(store, name).live_files().values()
        ),
    }
    assert quarantined(store) == [b"x"]


def test_a_start_reads_on_where_the_table_ends(store):
    committer(store).commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    after = begin(store)

    assert (after[ONE], after[TWO]) == (Start(2, 2), Start(None, 0))


def test_a_batch_that_was_stored_already_is_refused(store):
    first, second = committer(store), committer(store)
    first.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    with pytest.raises(Conflict):
        second.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    assert stored(store) == [0, 1]


@pytest.mark.parametrize("rival_end", [1, 2, 3])
def test_a_rival_with_an_overlapping_batch_stops(store, rival_end):
    first, second = committer(store), committer(store)
    first.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    with pytest.raises(Conflict):
        second.commit({ONE: OffsetRange(0, rival_end)}, batch(store, *range(rival_end)))

    first.commit({ONE: OffsetRange(2, 3)}, batch(store, 2))
    assert stored(store) == [0, 1, 2]


def test_a_batch_that_does_not_begin_where_the_last_ended_is_refused(store):
    driver = committer(store)
    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    with pytest.raises(Conflict, match="stored up to 2"):
        driver.commit({ONE: OffsetRange(3, 4)}, batch(store, 3))

    driver.commit({ONE: OffsetRange(2, 3)}, batch(store, 2))
    assert stored(store) == [0, 1, 2]


def test_a_crash_between_the_two_commits_is_made_good_at_the_next_start(store, monkeypatch):
    driver = committer(store)
    driver.commit({ONE: OffsetRange(0, 1)}, outcome(store, b"first"))
    monkeypatch.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
    driver.commit({ONE: OffsetRange(1, 2)}, outcome(store, b"second"))
    monkeypatch.undo()
    committer(store, ends=2).note(NOW_MS, {ONE: 2, TWO: 0})
    assert quarantined(store).count(b"second") == 1

    for _ in range(3):
        committer(store)

    assert sorted(quarantined(store)) == [b"first", b"second"]
    assert Table(store, "quarantine").position(positions.rejects("bulk")) == 1


def test_rejects_that_an_earlier_release_owes_are_committed_after_the_table_gained_a_column(
    store, monkeypatch
):
    monkeypatch.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
    outcomes = outcome(store, b"first")
    for done in outcomes:
        done.quarantine = [replace(file, schema="of other columns") for file in done.quarantine]
    committer(store).commit({ONE: OffsetRange(0, 1)}, outcomes)
    monkeypatch.undo()

    committer(store)

    assert quarantined(store) == [b"first"]


def test_a_log_that_was_cut_is_read_again_in_pieces_while_its_position_stays(store):
    driver = committer(store)
    driver.commit({ONE: OffsetRange(0, 10)}, batch(store, *range(10)), {ONE: 4})
    epoch, position = ONE.epoch_position("bulk"), ONE.position("bulk")
    again = {ONE: Start(10, 6), TWO: Start(None, 0)}

    for ends in ([8], [7, 9, 12]):
        # The first driver dies on the way: the next one begins at the cut, too.
        driver, at = BatchCommitter(store, "bulk", again), 6
        for end in ends:
            assert driver.epochs() == {}
            driver.commit({ONE: OffsetRange(at, end)}, batch(store, *range(at, end)), {ONE: 5})
            at = end
            table = Table(store, "samples")
            assert table.position(position) == max(end, 10)
            assert table.position(epoch) == (5 if end >= 10 else 4)

    assert driver.epochs() == {ONE: 5}
    assert set(stored(store)) == set(range(12))


@pytest.mark.parametrize(
    ("cut", "latest", "reread", "words"),
    [
        (6, 20, False, "was cut at offset 6, but samples were stored up to 10.*on_truncation"),
        (None, 20, True, "another one, or was put back"),
        (6, 9, True, "ends at offset 9: it is read again once it has grown past 10"),
    ],
)
def test_a_log_that_was_cut_is_refused_or_waited_for_and_told(store, cut, latest, reread, words):
    committer(store).commit({ONE: OffsetRange(0, 10)}, batch(store, *range(10)))

    with pytest.raises((NeedsOperator, TemporaryError), match=words):
        starts(Table(store, "samples"), "bulk", {ONE: 0}, {ONE: latest}, {ONE: cut}, reread=reread)


def test_a_log_that_was_cut_below_what_kafka_still_has_is_read_from_its_first_message(store):
    committer(store).commit({ONE: OffsetRange(0, 10)}, batch(store, *range(10)))

    begin = starts(Table(store, "samples"), "bulk", {ONE: 8}, {ONE: 20}, {ONE: 6}, reread=True)

    assert begin == {ONE: Start(10, 8)}
    assert begin[ONE].gap is None


def test_a_crash_before_the_samples_commit_leaves_nothing(store, monkeypatch):
    def fail(*args, **options):
        raise OSError("the power is gone")

    driver = committer(store)
    monkeypatch.setattr(batch_module, "commit", fail)
    with pytest.raises(OSError, match="power"):
        driver.commit({ONE: OffsetRange(0, 2)}, outcome(store, as_json(record()), b"x"))
    monkeypatch.undo()

    again = committer(store)
    again.commit({ONE: OffsetRange(0, 2)}, outcome(store, as_json(record()), b"x"))

    assert (stored(store), quarantined(store)) == ([0], [b"x"])


def test_lost_rejects_need_an_operator(store, monkeypatch):
    driver = committer(store)
    monkeypatch.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
    driver.commit({ONE: OffsetRange(0, 1)}, outcome(store, b"x"))
    monkeypatch.undo()
    monkeypatch.setattr(batch_module, "list_versions", lambda *_: [])

    with pytest.raises(NeedsOperator, match="restore the table quarantine"):
        committer(store)


def test_samples_put_back_to_an_earlier_state_are_read_again_beside_a_newer_quarantine(
    store, tmp_path
):
    driver = committer(store)
    driver.commit({ONE: OffsetRange(0, 1)}, batch(store, 0))
    old = Table(store, "samples").version
    for n in range(1, 4):
        driver.commit(
            {ONE: OffsetRange(n, n + 1)}, outcome(store, as_json(record(NOW_MS + n)), b"x")
        )
    for version in range(old + 1, Table(store, "samples").version + 1):
        (tmp_path / "tables" / "samples" / "_delta_log" / f"{version:020d}.json").unlink()

    driver = committer(store)
    for n in range(1, 5):
        driver.commit(
            {ONE: OffsetRange(n, n + 1)}, outcome(store, as_json(record(NOW_MS + n)), b"x")
        )

    assert stored(store) == [0, 1, 2, 3, 4]
    assert begin(store)[ONE] == Start(5, 5)


def test_offsets_that_kafka_has_dropped_are_a_gap_in_the_commit(store):
    committer(store).commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    positions = begin(store, first=5)
    assert positions[ONE].gap == OffsetRange(2, 5)

    accounting = BatchCommitter(store, "bulk", positions).commit(
        {ONE: OffsetRange(5, 6)}, batch(store, 5)
    )

    assert accounting["gaps"] == {"samples-0": [2, 5]}
    assert begin(store, first=5)[ONE] == Start(6, 6)


def test_a_gap_of_a_partition_with_nothing_to_read_is_counted_with_the_next_batch(store):
    committer(store).commit({ONE: OffsetRange(0, 2), TWO: OffsetRange(0, 3)}, batch(store, 0, 1))
    positions = begin(store) | {TWO: Start(3, 7)}
    driver = BatchCommitter(store, "bulk", positions)

    first = driver.commit({ONE: OffsetRange(2, 3)}, batch(store, 2))
    second = driver.commit({ONE: OffsetRange(3, 4), TWO: OffsetRange(7, 8)}, batch(store, 3))

    assert (first["gaps"], second["gaps"]) == ({"samples-1": [3, 7]}, {})
    assert begin(store)[TWO] == Start(8, 8)


def test_a_partition_that_ends_before_what_was_read_of_it_needs_an_operator(store):
    committer(store).commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    with pytest.raises(NeedsOperator, match="bootstrap_servers"):
        begin(store, ends=1)


def test_a_topic_created_again_is_read_from_its_beginning(store):
    committer(store).commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    anew = Partition("samples", "id-2", 0)

    assert begin(store, partitions=[anew])[anew] == Start(None, 0)


def test_a_partition_added_while_the_driver_runs_is_read_from_its_first_offset(store):
    driver = committer(store, partitions=[ONE])

    driver.commit({ONE: OffsetRange(0, 1), TWO: OffsetRange(0, 1)}, batch(store, 0, 1))

    assert begin(store)[TWO] == Start(1, 1)


def completeness(store):
    return Table(store, "samples").position(positions.complete("bulk"))


def test_a_batch_that_reaches_all_ends_says_how_far_input_is_complete(store):
    driver = committer(store)
    driver.note(NOW_MS, {ONE: 2, TWO: 1})
    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    assert completeness(store) is None

    driver.commit({TWO: OffsetRange(0, 1)}, batch(store, 2))

    assert completeness(store) == NOW_MS


def test_idle_input_is_complete_by_a_commit_of_its_own(store):
    driver = committer(store)
    driver.note(NOW_MS, {ONE: 0, TWO: 0})
    driver.note(NOW_MS + IDLE_EVERY_MS, {ONE: 0, TWO: 0})

    assert completeness(store) == NOW_MS + IDLE_EVERY_MS
    assert stored(store) == []


def test_an_idle_query_commits_seldom_and_no_minute_waits_for_it(store):
    begin_ms, grace_ms = NOW_MS // 60_000 * 60_000 + 7_000, 10_000
    driver = committer(store)
    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    version = Table(store, "samples").version

    for at_ms in range(begin_ms, begin_ms + 600_000, 2_000):
        driver.note(at_ms, {ONE: 2, TWO: 0})

        known = driver.state()[1]
        assert known == at_ms
        assert at_ms - completeness(store) < IDLE_EVERY_MS
        minute = (at_ms - grace_ms) // 60_000 * 60_000
        assert completeness(store) >= minute + grace_ms or minute < begin_ms
    assert Table(store, "samples").version - version <= 600 / 4 + 10


def test_what_an_idle_query_has_not_said_goes_with_its_next_batch_or_its_end(store):
    begin_ms = NOW_MS // 60_000 * 60_000 + 20_000
    driver = committer(store)
    driver.note(begin_ms, {ONE: 0, TWO: 0})
    driver.note(begin_ms + 2_000, {ONE: 0, TWO: 0})
    assert completeness(store) == begin_ms

    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    assert completeness(store) == begin_ms + 2_000

    driver.note(begin_ms + 4_000, {ONE: 2, TWO: 0})
    assert completeness(store) == begin_ms + 2_000
    driver.finish()
    assert completeness(store) == begin_ms + 4_000
    version = Table(store, "samples").version
    driver.finish()
    assert Table(store, "samples").version == version


def test_a_batch_that_was_not_committed_completes_nothing(store, monkeypatch):
    driver = committer(store)
    driver.note(NOW_MS, {ONE: 2, TWO: 0})

    def fail(*_args, **_kwargs):
        raise OSError("the storage is away")

    read, outcomes = {ONE: OffsetRange(0, 2)}, batch(store, 0, 1)
    with monkeypatch.context() as away:
        away.setattr(batch_module, "commit", fail)
        with pytest.raises(OSError, match="away"):
            driver.commit(read, outcomes)
    driver.finish()

    assert completeness(store) is None


def test_completeness_waits_for_what_is_behind(store):
    driver = committer(store)
    driver.note(NOW_MS, {ONE: 5, TWO: 0})
    driver.commit({ONE: OffsetRange(0, 4)}, batch(store, 0, 1, 2, 3))

    assert completeness(store) is None


def test_completeness_does_not_go_back_with_the_clock(store):
    committer(store).note(NOW_MS, {ONE: 0, TWO: 0})
    committer(store).note(NOW_MS - 1_000, {ONE: 0, TWO: 0})

    assert completeness(store) == NOW_MS


@pytest.fixture
def beforehand(monkeypatch):
    """Has something done between a driver's look at the table and its next commit to it."""

    def arrange(table, work):
        waiting = [work]

        def late(handle, *args, **options):
            if handle.name == table and waiting:
                waiting.pop()()
            return commit(handle, *args, **options)

        monkeypatch.setattr(batch_module, "commit", late)
        return lambda: not waiting

    return arrange


@pytest.mark.parametrize("rival_ms", [NOW_MS - 1_000, NOW_MS, NOW_MS + 1_000])
def test_completeness_that_a_rival_says_meanwhile_is_left_to_it(store, beforehand, rival_ms):
    driver, rival = committer(store), committer(store)
    ends = {ONE: 0, TWO: 0}
    happened = beforehand("samples", lambda: rival.note(rival_ms, ends))

    driver.note(NOW_MS, ends)

    assert happened()
    assert completeness(store) == rival_ms
    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))
    assert completeness(store) == max(rival_ms, NOW_MS)


@pytest.mark.parametrize("rival_ms", [NOW_MS - 1_000, NOW_MS + 1_000])
def test_a_batch_is_stored_though_a_rival_says_meanwhile_how_far_input_is_complete(
    store, beforehand, rival_ms
):
    driver, rival = committer(store), committer(store)
    driver.note(NOW_MS, {ONE: 2, TWO: 0})
    happened = beforehand("samples", lambda: rival.note(rival_ms, {ONE: 0, TWO: 0}))

    driver.commit({ONE: OffsetRange(0, 2)}, batch(store, 0, 1))

    assert happened()
    assert stored(store) == [0, 1]
    assert completeness(store) == max(rival_ms, NOW_MS)


def test_a_batch_whose_rival_stores_the_same_meanwhile_is_refused(store, beforehand):
    driver, rival = committer(store), committer(store)
    rival.note(NOW_MS, {ONE: 2, TWO: 0})
    read, outcomes = {ONE: OffsetRange(0, 2)}, batch(store, 0, 1)
    happened = beforehand("samples", lambda: rival.commit(read, outcomes))

    with pytest.raises(Conflict):
        driver.commit(read, batch(store, 0, 1))

    assert happened()
    assert stored(store) == [0, 1]


def test_rejects_that_a_starting_rival_commits_meanwhile_are_there_once(store, beforehand):
    driver = committer(store)
    happened = beforehand("quarantine", lambda: committer(store))

    driver.commit({ONE: OffsetRange(0, 1)}, outcome(store, b"first"))

    assert happened()
    assert quarantined(store) == [b"first"]
    driver.commit({ONE: OffsetRange(1, 2)}, outcome(store, b"second"))
    assert sorted(quarantined(store)) == [b"first", b"second"]


def note_idle(store, gate):
    """A driver of an idle query that finds a minute over at each of its looks."""
    driver = committer(store)
    gate.wait(60)
    for n in range(60):
        driver.note(NOW_MS + n * 60_000, {ONE: 0, TWO: 0})


def test_drivers_in_several_processes_note_completeness_at_once(store):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(3) as pool:
        gate = manager.Barrier(3)
        pool.starmap(note_idle, [(store, gate)] * 3)

    assert completeness(store) == NOW_MS + 59 * 60_000


def test_batches_are_numbered(store):
    driver = committer(store)
    numbers = [
        driver.commit({ONE: OffsetRange(n, n + 1)}, batch(store, n))["batch"] for n in range(3)
    ]

    assert numbers == [0, 1, 2]
    assert Table(store, "samples").position(positions.batch("bulk")) == 2


def test_two_queries_do_not_meet(store):
    other = Partition("critical-samples", "id-9", 0)
    bulk, critical = committer(store), BatchCommitter(store, "critical", {other: Start(None, 0)})

    for n in range(3):
        bulk.commit({ONE: OffsetRange(n, n + 1)}, batch(store, n))
        critical.commit({other: OffsetRange(n, n + 1)}, batch(store, 10 + n))

    assert stored(store) == [0, 1, 2, 10, 11, 12]


def test_a_fault_at_any_write_leaves_every_message_stored_once(store, monkeypatch):
    """Each commit fails in turn, before or after it took place; the driver starts again."""
    faults = list(itertools.product(range(1, 5), (False, True)))
    sent = [
        as_json(record(NOW_MS + n)) if n % 3 else b"bad %d" % n for n in range(12 * len(faults))
    ]
    for turn, (at, after) in enumerate(faults, 1):
        calls = itertools.count(1)

        def faulty(*args, at=at, after=after, calls=calls, **options):
            number = next(calls)
            if number == at and not after:
                raise OSError("before")
            commit(*args, **options)
            if number == at:
                raise OSError("after")

        monkeypatch.setattr(batch_module, "commit", faulty)
        with pytest.raises(OSError, match="before|after"):
            drive(store, sent[: 12 * turn])
        monkeypatch.undo()
        drive(store, sent[: 12 * turn])

    assert stored(store) == [n for n in range(len(sent)) if n % 3]
    assert sorted(quarantined(store)) == sorted(b"bad %d" % n for n in range(0, len(sent), 3))


def drive(store, sent):
    """A driver that reads all of `sent`, two messages a batch."""
    driver = committer(store)
    position = begin(store)[ONE].offset
    for start in range(position, len(sent), 2):
        driver.commit(
            {ONE: OffsetRange(start, start + 2)}, outcome(store, *sent[start : start + 2])
        )
