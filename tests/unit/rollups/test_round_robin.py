"""Who is next: nobody waits for long, and everything is done."""

from __future__ import annotations

import pytest

from tests.unit.rollups.simulation import START, Simulation, files_of
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS
from varve.rollups.round_robin import RoundRobin


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_PER_TASK", 20)
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_TO_LOOK_THROUGH", 20)
    monkeypatch.setattr("varve.rollups.task_ranges.LEAST_ROWS", 5)
    monkeypatch.setattr("varve.rollups.tier_tasks.WAVES_PER_STEP", 1)


@pytest.fixture
def simulation(tmp_path):
    """Two hours of one series, closed; then a late sample in every minute of the first."""
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START + 5_000 * k, 1.0) for k in range(720)])
    simulation.advance(2 * HOUR_MS)
    simulation.settle()
    simulation.put([(1, START + 5_000 * k + 1, 2.0) for k in range(720)])
    return simulation


def round_robin_of(simulation):
    return RoundRobin([simulation.workers[tier.name] for tier in TIERS])


def test_a_close_waits_for_no_more_than_one_repair(simulation):
    round_robin = round_robin_of(simulation)
    waited = repairs = 0

    while (next_commit := round_robin.next()) is not None:
        worker, planned = next_commit
        worker.commit(planned, files_of(planned))
        if worker.tier.name == "1m" and planned.closed:
            waited = 0
        elif planned.repaired:
            repairs += 1
            waited += 1
        assert waited <= 1 or repairs > 20  # then no window ends any more
        if repairs < 20:
            simulation.advance(MINUTE_MS)

    assert repairs >= 20
    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_a_backlog_of_closes_leaves_repairs_a_turn(simulation):
    simulation.put([(1, START + 2 * HOUR_MS + 5_000 * k, 1.0) for k in range(720)])
    simulation.advance(HOUR_MS)
    round_robin = round_robin_of(simulation)
    closes = between = repairs = 0

    while (next_commit := round_robin.next()) is not None:
        worker, planned = next_commit
        worker.commit(planned, files_of(planned))
        between = 0 if planned.repaired else between + 1
        repairs += bool(planned.repaired)
        closes += bool(planned.closed)
        assert closes > 20 or between <= len(TIERS)

    assert closes > 20
    assert repairs > 20
    assert simulation.pending() == []
    assert simulation.verify().differences == []
