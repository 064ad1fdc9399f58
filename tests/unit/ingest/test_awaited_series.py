"""A definition that comes late costs what its series left in quarantine, and no more."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS, as_arrow
from tests.unit.ingest.test_quarantine_replay import Driver
from tests.unit.ingest.test_task import plan
from varve.ingest import awaited_series
from varve.ingest.awaited_series import AwaitedSeries
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

NEVER, LATE = define("never", {}), define("late", {})


@pytest.fixture
def driver(store):
    return Driver(store)


def undefined(series, ts):
    return as_arrow([(series, ts, 1.0)], defined=False)


def files(store):
    return set(Table(store, "quarantine").live_files())


def lose(store, paths):
    """Whoever reads one of these files fails."""
    for path in paths:
        (Path(store.root) / "quarantine" / path).unlink()


def replayed(store, awaited):
    registry = open_registry(store)
    assert awaited.defined(registry)
    return awaited.replay(plan(store), registry)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_series_that_is_never_defined_does_not_make_others_read_all_its_files(
    driver, store, restarted
):
    awaited = AwaitedSeries(store, "bulk")
    for n in range(5):
        awaited.add(driver.ingest(undefined(NEVER, NOW_MS + n)))
    others = files(store)
    awaited.add(driver.ingest(undefined(LATE, NOW_MS)))
    if restarted:
        awaited = AwaitedSeries(store, "bulk")
    lose(store, others)
    open_registry(store).register([(LATE, NOW_MS)])

    counts = replayed(store, awaited)

    assert (counts.stored, driver.stored()) == (1, [NOW_MS])
    assert len(awaited) == 1
    assert not awaited.defined(open_registry(store))


def test_what_is_compacted_or_was_not_named_is_read_once_and_found(driver, store, monkeypatch):
    monkeypatch.setattr(awaited_series, "NAMED_UNDEFINED", 1)
    awaited = AwaitedSeries(store, "bulk")
    awaited.add(driver.ingest(undefined(LATE, NOW_MS)))
    awaited.add(driver.ingest(undefined(LATE, NOW_MS + 1), undefined(NEVER, NOW_MS)))
    table = Table(store, "quarantine", files=True)
    live = list(table.live_files().values())
    rows = snapshot(store, "quarantine").scan(Bounds())
    removals = [Removal(file.path, file.size) for file in live]
    rewrite(table, [write_file(store, "quarantine", rows)], removals)
    open_registry(store).register([(LATE, NOW_MS)])

    counts = replayed(store, awaited)

    assert (counts.stored, counts.waiting) == (2, {"unknown_series": 1})
    assert driver.stored() == [NOW_MS, NOW_MS + 1]
    assert len(awaited) == 1


def test_rows_of_an_earlier_release_that_do_not_name_their_series_are_found(driver, store):
    driver.ingest(undefined(LATE, NOW_MS))
    table = Table(store, "quarantine", files=True)
    (live,) = table.live_files().values()
    rows = snapshot(store, "quarantine").scan(Bounds()).to_pylist()
    old = [row | {"series_ids": None, "headers": None} for row in rows]
    schema = snapshot(store, "quarantine").scan(Bounds()).schema
    new = write_file(store, "quarantine", schema.empty_table().from_pylist(old, schema))
    rewrite(table, [new], [Removal(live.path, live.size)])
    open_registry(store).register([(LATE, NOW_MS)])

    assert replayed(store, AwaitedSeries(store, "bulk")).stored == 1


def test_a_series_whose_id_another_one_has_is_tried_once(driver, store):
    awaited = AwaitedSeries(store, "bulk")
    awaited.add(driver.ingest(undefined(LATE, NOW_MS)))
    open_registry(store).register([(replace(NEVER, series_id=LATE.series_id), NOW_MS)])

    counts = replayed(store, awaited)
    open_registry(store).register([(define("another", {}), NOW_MS)])

    assert counts.rejected == {Reason.ID_COLLISION.value: 1}
    assert not awaited.defined(open_registry(store))
    awaited.add(driver.ingest(undefined(define("third", {}), NOW_MS)))
    assert len(awaited) == 1
