"""Drivers, compaction, expiry, deletions, moves and backups in any order, each between the plan and
the commit of another: whatever the order, the tables end as the oracle has them.
"""

from __future__ import annotations

import random

import pytest

from tests.interleaved import Interleaved, Race
from tests.unit.maintenance.test_deletion import FOREVER
from tests.year import BEGIN, SERIES, Year, retention
from varve.maintenance import deletion, expiry
from varve.model.window import DAY_MS
from varve.storage.store import Store

# What is kept of the class is less than a day, so that it expires while a driver is at work.
SHORT = retention(2, 3.5, 5, 6.5, 7, debug=(0.5, 1.5, 2.5))

# Of the class nothing of the last day goes.
RACED = retention(1.5, 3, 5, 7, 8, debug=(1.1, 2, 3), pods=(1.1, 1.2, 1.3, 1.4, 1.5))


@pytest.mark.parametrize("seed", range(3))
def test_deletions_between_all_else(tmp_path, seed):
    rng = random.Random(seed)
    run = Interleaved(Year(str(tmp_path), FOREVER, seed), rng, deletes=True)

    run.run(150)
    deletion.finish(run.year.store)

    run.year.check()


@pytest.mark.parametrize("seed", range(2))
def test_expiry_between_all_else(tmp_path, seed, monkeypatch):
    # Here repairs come rarely, and none may be given up.
    monkeypatch.setattr(expiry, "LEAST_PATIENCE_MS", 1_000 * DAY_MS)
    run = Interleaved(Year(str(tmp_path), SHORT, seed), random.Random(seed), deletes=False)

    run.run(250)

    run.year.check()
    assert all(run.year.mark("samples", s.series_id) > BEGIN for s in SERIES)


def test_everything_at_once_with_a_colder_root_and_backups(tmp_path, monkeypatch):
    # The short variant of `make race`.
    monkeypatch.setattr(expiry, "LEAST_PATIENCE_MS", 1_000 * DAY_MS)
    cold = Store(str(tmp_path / "cold"))
    year = Year(str(tmp_path / "hot"), RACED, 1, colder=cold)
    run = Race(year, random.Random(1), tmp_path)

    run.go(240)
    for _ in range(10):
        if run.moved and run.restored and run.year.slipped:
            break
        run.go(30)
    run.end()

    run.year.check()
    assert run.trimmed > 0
    assert run.moved > 0
    assert run.restored > 0
    assert run.year.slipped
    assert run.year.mark("samples", SERIES[0].series_id) > BEGIN
