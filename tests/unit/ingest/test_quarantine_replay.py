import gzip
from dataclasses import replace

import pytest

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, encoded, record
from tests.unit.ingest.test_task import ATTIC, CELLAR, HOUR_MS, plan
from varve.ingest import arrow_codec, task
from varve.ingest import quarantine_replay as replay_module
from varve.ingest.awaited_series import AwaitedSeries
from varve.ingest.batch import BatchCommitter
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.quarantine_replay import Selection, replay
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.ingest.start_offsets import Start
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.maintenance.series_trimming import Trimming
from varve.model.clock import ManualClock
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit, rewrite
from varve.storage.snapshot import snapshot
from varve.storage.table import Table, create_tables

PARTITION = Partition("samples", "id", 0)


class Driver:
    def __init__(self, store):
        self.store, self.offset = store, 0

    def ingest(self, *values, headers=(), **changes):
        messages = [
            Message("samples", 0, self.offset + n, NOW_MS, value, headers)
            for n, value in enumerate(values)
        ]
        outcomes = list(run_task(messages, plan(self.store, **changes)))
        open_registry(self.store).register([d for o in outcomes for d in o.definitions])
        end = self.offset + len(values)
        committer = BatchCommitter(
            self.store, "bulk", {PARTITION: Start(self.offset or None, self.offset)}
        )
        committer.commit({PARTITION: OffsetRange(self.offset, end)}, outcomes)
        self.offset = end
        return outcomes

    def replay(self, *reasons, since_ms=-1, until_ms=NOW_MS * 2, **changes):
        registry = open_registry(self.store)
        return replay(
            Selection(frozenset(reasons), since_ms, until_ms),
            plan(self.store, **changes),
            registry,
        )

    def stored(self):
        return sorted(r["ts"] for r in snapshot(self.store, "samples").scan(Bounds()).to_pylist())

    def quarantined(self):
        rows = snapshot(self.store, "quarantine").scan(Bounds()).to_pylist()
        return sorted((r["offset"], r["reason"], r["samples"]) for r in rows)


@pytest.fixture
def driver(store):
    return Driver(store)


def test_samples_whose_definition_has_come_are_stored_and_the_others_wait_on(driver, store):
    driver.ingest(
        as_arrow([(ATTIC, NOW_MS, 1.0)], defined=False),
        as_arrow([(CELLAR, NOW_MS + 1, 1.0)], defined=False),
        b"garbage",
    )
    assert AwaitedSeries(store, "bulk")._ids == {ATTIC.series_id, CELLAR.series_id}
    assert not AwaitedSeries(store, "critical")
    open_registry(store).register([(ATTIC, NOW_MS)])

    counts = driver.replay(Reason.UNKNOWN_SERIES)

    assert counts == Replayed(stored=1, waiting={"unknown_series": 1})
    assert driver.stored() == [NOW_MS]
    assert driver.quarantined() == [(1, "unknown_series", 1), (2, "malformed", 1)]
    assert AwaitedSeries(store, "bulk")._ids == {CELLAR.series_id}


def test_a_replay_takes_each_row_once(driver):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS), record()), b"garbage")
    assert driver.stored() == [NOW_MS]

    first = driver.replay(Reason.TOO_OLD, oldest_ms=0)
    second = driver.replay(Reason.TOO_OLD, oldest_ms=0)

    assert (first, second) == (Replayed(stored=1), Replayed())
    assert driver.stored() == [NOW_MS - 30 * HOUR_MS, NOW_MS]
    assert driver.quarantined() == [(1, "malformed", 1)]


def test_what_is_still_refused_stays_where_it_is(driver, store):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS)))
    version = Table(store, "quarantine").version

    assert driver.replay(Reason.TOO_OLD) == Replayed(rejected={"too_old": 1})
    assert Table(store, "quarantine").version == version


def test_what_is_refused_for_another_reason_stays_with_that_reason(driver):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS), record(NOW_MS - 50 * HOUR_MS)))

    driver.replay(Reason.TOO_OLD, oldest_ms=NOW_MS - 40 * HOUR_MS)

    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    assert driver.quarantined() == [(0, "too_old", 1)]


def test_only_rows_refused_in_the_time_asked_for_are_taken(driver):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS)), now_ms=NOW_MS)
    driver.ingest(as_json(record(NOW_MS - 31 * HOUR_MS)), now_ms=NOW_MS + 10)

    driver.replay(Reason.TOO_OLD, since_ms=NOW_MS, oldest_ms=0)
    assert driver.stored() == [NOW_MS - 31 * HOUR_MS]
    driver.replay(Reason.TOO_OLD, until_ms=NOW_MS, oldest_ms=0)

    assert driver.stored() == [NOW_MS - 31 * HOUR_MS, NOW_MS - 30 * HOUR_MS]


def test_of_a_limit_the_examples_come_back_and_the_rest_stays_a_number(driver, monkeypatch):
    monkeypatch.setattr(task, "EXAMPLES", 2)
    new = [record(NOW_MS + n, host=str(n)) for n in range(5)]
    driver.ingest(as_json(*new), limits=Limits(default=MetricLimits(labels=0)))
    assert driver.quarantined() == [(0, "label_limit", 5)]

    driver.replay(Reason.LABEL_LIMIT)

    assert driver.stored() == [NOW_MS, NOW_MS + 1]
    assert driver.quarantined() == [(0, "label_limit", 3)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_between_the_two_commits_is_made_good(driver, store, monkeypatch, after):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS)), b"garbage")

    def fail(*args, **options):
        if after:
            rewrite(*args, **options)
        raise OSError("the power is gone")

    monkeypatch.setattr(replay_module, "rewrite", fail)
    with pytest.raises(OSError, match="power"):
        driver.replay(Reason.TOO_OLD, oldest_ms=0)
    monkeypatch.undo()

    assert driver.replay(Reason.TOO_OLD, oldest_ms=0) == Replayed()
    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    assert driver.quarantined() == [(1, "malformed", 1)]
    name = positions.replay("bulk")
    assert Table(store, "samples").position(name) == Table(store, "quarantine").position(name)


def test_a_rival_that_replays_the_same_rows_stores_nothing_twice(driver, store, monkeypatch):
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS)))
    original, raced = replay_module._Replay._run, []

    def after_a_rival(self, rows):
        if not raced:
            raced.append(True)
            driver.replay(Reason.TOO_OLD, oldest_ms=0)
        return original(self, rows)

    monkeypatch.setattr(replay_module._Replay, "_run", after_a_rival)

    assert driver.replay(Reason.TOO_OLD, oldest_ms=0) == Replayed()
    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    assert driver.quarantined() == []


def test_what_a_rival_series_has_taken_the_id_of_is_not_stored(driver, store):
    driver.ingest(as_arrow([(ATTIC, NOW_MS - 30 * HOUR_MS, 1.0)]))
    open_registry(store).register([(replace(CELLAR, series_id=ATTIC.series_id), NOW_MS)])

    driver.replay(Reason.TOO_OLD, oldest_ms=0)

    assert (driver.stored(), len(driver.quarantined())) == ([], 1)


def test_what_is_refused_again_is_kept_whole_however_much_it_is(driver):
    old = [as_json(record(NOW_MS - (30 + n) * HOUR_MS)) for n in range(9)]
    driver.ingest(*old)

    driver.replay(Reason.TOO_OLD, oldest_ms=NOW_MS - 30 * HOUR_MS, reject_bytes=1)

    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    assert driver.quarantined() == [(n, "too_old", 1) for n in range(1, 9)]
    driver.replay(Reason.TOO_OLD, oldest_ms=0)
    assert len(driver.stored()) == 9


def test_what_is_only_counted_stays_a_number_when_its_definition_comes(driver, store):
    driver.ingest(
        *(as_arrow([(ATTIC, NOW_MS + n, 1.0)], defined=False) for n in range(5)), reject_bytes=1
    )
    assert AwaitedSeries(store, "bulk")._ids == {ATTIC.series_id}
    open_registry(store).register([(ATTIC, NOW_MS)])

    driver.replay(Reason.UNKNOWN_SERIES)

    assert driver.stored() == [NOW_MS]
    assert driver.quarantined() == [(1, "unknown_series", 4)]
    assert not AwaitedSeries(store, "bulk")


def test_what_a_limit_refuses_in_a_replay_is_kept_whole(driver, store, monkeypatch):
    monkeypatch.setattr(task, "EXAMPLES", 2)
    early = [record(NOW_MS + 2 * HOUR_MS, host=str(n)) for n in range(10)]
    driver.ingest(as_json(*early))

    driver.replay(
        Reason.TOO_FAR_IN_FUTURE,
        now_ms=NOW_MS + HOUR_MS,
        newest_ms=NOW_MS + 2 * HOUR_MS,
        limits=Limits(default=MetricLimits(series=1)),
    )

    (row,) = snapshot(store, "quarantine").scan(Bounds()).to_pylist()
    assert (row["reason"], row["samples"]) == ("cardinality_limit", 9)
    assert len(arrow_codec.read(row["value"])) == 9


def test_a_compressed_message_that_was_too_large_is_read_as_what_it_is(driver):
    body = gzip.compress(as_json(*[record(NOW_MS + n) for n in range(1_000)]))
    driver.ingest(body, headers=encoded("gzip"), max_message_bytes=len(body) - 1)
    assert driver.quarantined() == [(0, "message_too_large", 1)]

    driver.replay(Reason.MESSAGE_TOO_LARGE)

    assert len(driver.stored()) == 1_000
    assert driver.quarantined() == []


def test_a_replay_does_not_store_unchanged_what_was_refused(driver):
    sample = as_json(record())
    driver.ingest(gzip.compress(sample))  # nothing says that it is compressed
    driver.ingest(sample, headers=(("content-encoding", b"br"),))
    driver.ingest(sample, headers=(("content-encoding", b"\xff\xfe"),))
    driver.ingest(
        as_arrow([(ATTIC, NOW_MS, 1.0)]), headers=(("content-type", b"application/json"),)
    )
    driver.ingest(b'[{"metric":"m","value":1,"timestamp":1,"tags":{"a":1}},' + sample[:-1])

    assert driver.replay(Reason.MALFORMED) == Replayed(rejected={"malformed": 6})
    assert driver.stored() == []


def test_a_series_that_is_trimmed_before_a_replay_is_committed_is_defined_anew(
    driver, store, monkeypatch
):
    create_tables(store)
    frontier = {"frontier:1h": Step(None, NOW_MS)}
    commit(Table(store, "rollup_1h"), [], transactions=frontier)
    open_registry(store, ManualClock(0)).register([(ATTIC, 0)])
    driver.ingest(as_arrow([(ATTIC, NOW_MS - 30 * HOUR_MS, 1.0)]))
    plain, trimmed = replay_module._Replay._commit, []

    def late(self, *args):
        if not trimmed:
            job = Trimming(store, least_share=0.0)
            trimmed.append(job.run(job.plan(NOW_MS, {"series": snapshot(store, "series")})).series)
        plain(self, *args)

    monkeypatch.setattr(replay_module._Replay, "_commit", late)

    counts = driver.replay(Reason.TOO_OLD, oldest_ms=0)

    assert trimmed == [1]
    assert counts == Replayed(stored=1)
    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    (row,) = snapshot(store, "series").scan(Bounds()).to_pylist()
    assert row["series_id"] == ATTIC.series_id
