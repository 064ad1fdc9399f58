from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS, as_json, record
from tests.unit.ingest.test_task import plan
from varve.ingest import definition_files
from varve.ingest.definition_files import holds_any, register, remove
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.outcome import Outcome
from varve.ingest.reject_reasons import Reason
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.identity import define
from varve.storage.snapshot import Bounds, snapshot


def outcomes(store, *counts):
    """One of a task for each count, which brings so many new series."""
    found, at = [], 0
    for count in counts:
        records = [record(NOW_MS + n, host=f"h{n}", unit="ö") for n in range(at, at + count)]
        found += run_task([Message("t", len(found), 0, NOW_MS, as_json(*records))], plan(store))
        at += count
    return found


def registered(store):
    rows = snapshot(store, "series").scan(Bounds()).to_pylist()
    return {(r["series_id"], r["check"], tuple(r["tags"]), r["first_seen"]) for r in rows}


def test_many_new_series_come_in_files_and_are_registered_like_few(store, monkeypatch):
    monkeypatch.setattr(definition_files, "INLINE", 3)
    monkeypatch.setattr(definition_files, "PIECE", 4)
    found = outcomes(store, 2, 10, 5)
    assert [(len(o.definitions), o.new_series) for o in found] == [(2, 2), (0, 10), (0, 5)]
    told = [Outcome.from_json(o.to_json()) for o in found]
    assert told == found

    assert register(open_registry(store), store, told, Limits()) == {}

    expected = [(define("requests", {"host": f"h{n}", "unit": "ö"}), NOW_MS + n) for n in range(17)]
    assert registered(store) == {(d.series_id, d.check, d.tags, ts) for d, ts in expected}


def test_tasks_that_hold_a_refused_series_are_found_and_files_are_deleted(store, monkeypatch):
    monkeypatch.setattr(definition_files, "INLINE", 3)
    limits = Limits(default=MetricLimits(series=12))
    found = outcomes(store, 2, 10, 5)

    refused = register(open_registry(store), store, found, limits)

    assert set(refused.values()) == {Reason.CARDINALITY_LIMIT}
    assert len(refused) == 5
    assert [holds_any(store, o, refused) for o in found] == [False, False, True]
    assert [holds_any(store, o, {}) for o in found] == [False, False, False]
    files = [file for o in found for file in o.definition_files]
    remove(store, found)
    for file in files:
        assert not store.exists("series", file.path)
    assert len(registered(store)) == 12


def test_what_the_driver_is_told_does_not_grow_with_the_number_of_new_series(store):
    few, many = outcomes(store, definition_files.INLINE), outcomes(store, 60_000)

    assert max(len(o.to_json()) for o in many) < 2_000 < max(len(o.to_json()) for o in few)
