import random
from collections import Counter

import pytest

from tests.plans import ingest_plan, open_registry
from tests.unit.ingest.messages import NOW_MS, as_json, record
from tests.unit.ingest.test_quarantine_replay import Driver
from tests.unit.ingest.test_task import HOUR_MS
from varve.ingest import quarantine_expiry as expiry_module
from varve.ingest import quarantine_replay as replay_module
from varve.ingest import upkeep as upkeep_module
from varve.ingest.batch import BatchCommitter
from varve.ingest.quarantine_budget import QuarantineBudget
from varve.ingest.quarantine_expiry import Expired, bytes_since, expire_quarantine
from varve.ingest.reject_reasons import Reason
from varve.ingest.upkeep import Upkeep
from varve.model.clock import ManualClock
from varve.storage import positions
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.log import entries
from varve.storage.table import Table

ALL = 1 << 40
OLD = NOW_MS - 30 * HOUR_MS


@pytest.fixture
def driver(store):
    return Driver(store)


def aged(store, before_ms):
    """What expires by its age alone."""
    expired = expire_quarantine(store, before_ms, ALL)
    assert not expired.by_size
    return expired.by_age


def test_whole_files_of_expired_rejects_go_and_are_counted(driver, store, caplog):
    driver.ingest(b"x", b"y", as_json(record(OLD)), now_ms=NOW_MS)
    driver.ingest(b"z", now_ms=NOW_MS + 10)
    clock = ManualClock(NOW_MS + HOUR_MS + 1)

    with caplog.at_level("INFO"):
        plan = ingest_plan(store, quarantine_retention_ms=HOUR_MS)
        Upkeep(plan, open_registry(store), clock).expire()

    assert driver.quarantined() == [(3, "malformed", 1)]
    assert "3 samples beyond 0.0416667 days removed (2 malformed, 1 too_old)" in caplog.text


def test_what_has_not_expired_stays(driver, store):
    driver.ingest(b"x", now_ms=NOW_MS)
    version = Table(store, "quarantine").version

    assert aged(store, NOW_MS) == {}
    assert Table(store, "quarantine").version == version


def test_rejects_that_a_crash_kept_back_are_committed_though_others_expire(
    driver, store, monkeypatch
):
    driver.ingest(b"x", now_ms=NOW_MS)
    monkeypatch.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
    driver.ingest(b"y", now_ms=NOW_MS)
    monkeypatch.undo()

    assert aged(store, NOW_MS + 1) == {"malformed": 1}

    driver.ingest(b"z", now_ms=NOW_MS + 1)
    assert driver.quarantined() == [(1, "malformed", 1), (2, "malformed", 1)]
    assert aged(store, NOW_MS + 1) == {"malformed": 1}
    assert driver.quarantined() == [(2, "malformed", 1)]


def test_a_replay_that_a_crash_cut_in_two_is_finished_before_its_rows_expire(
    driver, store, monkeypatch
):
    driver.ingest(as_json(record(OLD)), b"x", now_ms=NOW_MS)
    driver.ingest(b"y", now_ms=NOW_MS)

    def fail(*_, **__):
        raise OSError("the power is gone")

    monkeypatch.setattr(replay_module, "rewrite", fail)
    with pytest.raises(OSError, match="power"):
        driver.replay(Reason.TOO_OLD, oldest_ms=0)
    monkeypatch.undo()

    # Its rows were stored: removed as well, they would count twice. By size it is the same.
    assert expire_quarantine(store, None, 0) == Expired(by_size={"malformed": 1})
    assert aged(store, NOW_MS + 1) == {}
    driver.replay(Reason.TOO_OLD, oldest_ms=0)
    assert driver.stored() == [OLD]
    assert aged(store, NOW_MS + 1) == {"malformed": 1}


def test_nothing_expires_while_it_is_unknown_what_a_replay_has_taken(driver, store, monkeypatch):
    driver.ingest(as_json(record(OLD)), b"x", now_ms=NOW_MS)
    table = Table(store, "samples")
    commit(table, [], transactions={positions.replay("bulk"): Step(None, 0)})
    monkeypatch.setattr(expiry_module, "list_versions", lambda *_: [0])

    assert expire_quarantine(store, NOW_MS + 1, 0).total() == 0


def test_what_a_replay_refuses_again_stays_when_its_file_goes_meanwhile(driver, store, monkeypatch):
    driver.ingest(as_json(record(OLD), record(OLD - 20 * HOUR_MS)))
    original = replay_module._Replay._commit_quarantine

    def after_the_file_went(self, number, metadata):
        taken = Removal(**metadata["taken"], rows_disappear=True)
        rewrite(Table(store, "quarantine", files=True), [], [taken])
        original(self, number, metadata)

    monkeypatch.setattr(replay_module._Replay, "_commit_quarantine", after_the_file_went)
    driver.replay(Reason.TOO_OLD, oldest_ms=OLD)

    assert driver.stored() == [OLD]
    assert driver.quarantined() == [(0, "too_old", 1)]


def test_of_two_that_expire_at_once_one_does(driver, store):
    driver.ingest(b"x", now_ms=NOW_MS)

    first, second = (aged(store, NOW_MS + 1) for _ in range(2))

    assert (first, second) == ({"malformed": 1}, {})
    assert driver.quarantined() == []


def size_of(store):
    return sum(file.size for file in Table(store, "quarantine").live_files().values())


def test_beyond_the_bound_the_oldest_files_go_and_are_told(driver, store, caplog):
    for n in range(5):
        driver.ingest(b"x" * 2_000, *[b"y"] * n, now_ms=NOW_MS + n)
    sizes = [f.size for f in Table(store, "quarantine").live_files().values()]
    told = []
    plan = ingest_plan(store, quarantine_bytes=sum(sizes[-2:]), on_expiry=told.append)

    # A bound needs no clock: one that is not believed stops only what goes by age.
    with caplog.at_level("INFO"):
        Upkeep(plan, open_registry(store), ManualClock(2 * NOW_MS), lambda: False).expire()

    assert {row[0] for row in driver.quarantined()} == set(range(6, 15))
    assert told == [Expired(by_size={"malformed": 6})]
    assert f"6 samples beyond {sum(sizes[-2:]):,} bytes removed (6 malformed)" in caplog.text
    (entry,) = entries(store, "quarantine", 5, 6)
    assert entry.metadata["expired"] == {"malformed": 6}
    Upkeep(plan, open_registry(store), ManualClock(NOW_MS)).expire()
    assert len(told) == 1


def test_a_flood_of_rejects_stays_within_its_bound_and_every_one_is_counted(driver, store):
    """Batches of a MiB of random bytes, a minute apart, for three hours."""
    bound, rng = 2 * 2**20, random.Random(1)
    clock = ManualClock(NOW_MS)
    budget = QuarantineBudget("bulk", bound, 0, NOW_MS)
    expired, told = Counter(), []
    plan = ingest_plan(store, quarantine_bytes=bound, on_expiry=told.append)
    upkeep = Upkeep(plan, open_registry(store), clock)
    driver.ingest(b"what was there before", now_ms=clock.now_ms())
    written = size_of(store)
    for minute in range(180):
        clock.advance(60_000)
        reject_bytes = budget.per_partition(8 * 2**20, 1, clock.now_ms())
        outcomes = driver.ingest(
            *(rng.randbytes(100_000) for _ in range(10)),
            now_ms=clock.now_ms(),
            reject_bytes=reject_bytes,
        )
        size = sum(file.size for o in outcomes for file in o.quarantine)
        budget.spend(size)
        written += size
        if minute % 60 == 59:
            upkeep.expire()
            assert size_of(store) <= bound

    for one in told:
        expired += one.by_size
    samples = sum(samples for _, _, samples in driver.quarantined())
    assert samples + expired.total() == 1 + 180 * 10
    # Each batch leaves a row with a number at least, and no more than that once it is spent.
    assert written < bound / 8 + bound / 2 / 4 + 180 * 10_000 + 2**20


def test_a_budget_counts_what_was_written_before_a_restart(driver, store):
    bound = 2**20
    driver.ingest(random.Random(1).randbytes(bound // 16), now_ms=NOW_MS)
    restarted_ms = NOW_MS + 60_000

    written = bytes_since(store, QuarantineBudget.counts_since_ms(restarted_ms))
    budget = QuarantineBudget("bulk", bound, written, restarted_ms)

    assert written == size_of(store)
    assert budget.per_partition(bound, 1, restarted_ms) == (bound // 8 - written) // 2
    assert bytes_since(store, QuarantineBudget.counts_since_ms(NOW_MS + 4 * HOUR_MS)) == 0


class Stopping:
    """Stops upkeep after so many waits."""

    def __init__(self, waits):
        self.left = waits

    def wait(self, _):
        self.left -= 1
        return self.left < 0


def test_an_error_of_upkeep_ends_nothing_and_is_tried_again(driver, store, monkeypatch, caplog):
    driver.ingest(b"x", now_ms=NOW_MS)
    clock = ManualClock(NOW_MS + HOUR_MS + 1)
    upkeep = Upkeep(
        ingest_plan(store, quarantine_retention_ms=HOUR_MS), open_registry(store), clock
    )
    original, failures = upkeep_module.expire_quarantine, []

    def away_at_first(*arguments):
        if len(failures) < 2:
            failures.append(True)
            raise OSError("the storage is away")
        return original(*arguments)

    monkeypatch.setattr(upkeep_module, "expire_quarantine", away_at_first)
    monkeypatch.setattr(upkeep_module, "census", lambda *_: 1 / 0)

    upkeep.run(Stopping(waits=3))

    assert len(failures) == 2
    assert driver.quarantined() == []
    assert "the storage is away" in caplog.text
    assert "division by zero" in caplog.text
