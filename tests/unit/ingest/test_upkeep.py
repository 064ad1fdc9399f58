import pytest

from tests.plans import ingest_plan, open_registry
from tests.unit.ingest.messages import NOW_MS, as_json, record
from tests.unit.ingest.test_quarantine_replay import Driver
from tests.unit.ingest.test_task import HOUR_MS
from varve.ingest import quarantine_replay as replay_module
from varve.ingest import upkeep as upkeep_module
from varve.ingest.batch import BatchCommitter
from varve.ingest.reject_reasons import Reason
from varve.ingest.upkeep import Upkeep, expire_quarantine
from varve.model.clock import ManualClock
from varve.storage.commit import Removal, rewrite
from varve.storage.table import Table

OLD = NOW_MS - 30 * HOUR_MS


@pytest.fixture
def driver(store):
    return Driver(store)


def test_whole_files_of_expired_rejects_go_and_are_counted(driver, store, caplog):
    driver.ingest(b"x", b"y", as_json(record(OLD)), now_ms=NOW_MS)
    driver.ingest(b"z", now_ms=NOW_MS + 10)
    clock = ManualClock(NOW_MS + HOUR_MS + 1)

    with caplog.at_level("INFO"):
        plan = ingest_plan(store, quarantine_retention_ms=HOUR_MS)
        Upkeep(plan, open_registry(store), clock).expire()

    assert driver.quarantined() == [(3, "malformed", 1)]
    assert "3 expired samples removed (2 malformed, 1 too_old)" in caplog.text


def test_what_has_not_expired_stays(driver, store):
    driver.ingest(b"x", now_ms=NOW_MS)
    version = Table(store, "quarantine").version

    assert expire_quarantine(store, NOW_MS) == {}
    assert Table(store, "quarantine").version == version


def test_rejects_that_a_crash_kept_back_are_committed_before_any_expire(driver, store, monkeypatch):
    driver.ingest(b"x", now_ms=NOW_MS)
    monkeypatch.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
    driver.ingest(b"y", now_ms=NOW_MS)
    monkeypatch.undo()

    assert expire_quarantine(store, NOW_MS + 1) == {}

    driver.ingest(b"z", now_ms=NOW_MS + 1)
    assert expire_quarantine(store, NOW_MS + 1) == {"malformed": 2}
    assert driver.quarantined() == [(2, "malformed", 1)]


def test_a_replay_that_a_crash_cut_in_two_is_finished_before_its_rows_expire(
    driver, store, monkeypatch
):
    driver.ingest(as_json(record(OLD)), b"x", now_ms=NOW_MS)

    def fail(*_, **__):
        raise OSError("the power is gone")

    monkeypatch.setattr(replay_module, "rewrite", fail)
    with pytest.raises(OSError, match="power"):
        driver.replay(Reason.TOO_OLD, oldest_ms=0)
    monkeypatch.undo()

    assert expire_quarantine(store, NOW_MS + 1) == {}
    driver.replay(Reason.TOO_OLD, oldest_ms=0)
    assert driver.stored() == [OLD]
    assert expire_quarantine(store, NOW_MS + 1) == {"malformed": 1}


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

    first, second = (expire_quarantine(store, NOW_MS + 1) for _ in range(2))

    assert (first, second) == ({"malformed": 1}, {})
    assert driver.quarantined() == []


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
