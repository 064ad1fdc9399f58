"""What happens to clocks and inputs in years of running: each by itself."""

from __future__ import annotations

import random

import pytest

from tests.unit.rollups.simulation import START, Simulation, files_of
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.storage.commit import Step, commit
from varve.storage.table import Table


def complete(simulation: Simulation, query: str, until_ms: int) -> None:
    table = Table(simulation.store, "samples")
    name = f"complete:{query}"
    commit(table, [], transactions={name: Step(table.position(name), until_ms)})


def step_all(simulation: Simulation) -> None:
    for tier in TIERS:
        while simulation.step(tier.name) is not None:
            pass


def test_the_frontier_is_that_of_the_input_that_lags(tmp_path):
    simulation = Simulation(tmp_path)
    plan = TierPlan(simulation.store, TIERS[0], ("bulk", "critical"), 0, 0, 1)
    worker = TierWorker(plan, simulation.clock)
    simulation.put([(1, START + 1_000, 1.0)])
    complete(simulation, "bulk", START + HOUR_MS)
    assert worker.plan() is None  # nobody knows yet how far the other one is

    complete(simulation, "critical", START + 3 * MINUTE_MS - 1)
    planned = worker.plan()
    worker.commit(planned, files_of(planned))
    assert simulation.frontier("1m") == START + 2 * MINUTE_MS
    assert worker.plan() is None

    complete(simulation, "critical", START + 2 * HOUR_MS)
    planned = worker.plan()
    worker.commit(planned, files_of(planned))
    assert simulation.frontier("1m") == START + HOUR_MS


def test_a_first_start_closes_a_history_of_weeks_from_its_first_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_PER_TASK", 100)
    simulation = Simulation(tmp_path)
    rng = random.Random(6)
    days = list(range(1, 22))
    rng.shuffle(days)
    for day in days:
        begin = START - day * DAY_MS
        simulation.put([(s, begin + rng.randrange(DAY_MS), rng.random()) for s in range(40)])
    simulation.advance(MINUTE_MS)

    step_all(simulation)

    report = simulation.verify()
    assert report.differences == []
    assert not any(report.left_out.values())
    # Every sample has a window of its own in 1m, and all days but the one under way are closed.
    assert sum(row["count"] for row in simulation.rows("rollup_1m")) == 40 * len(days)
    assert simulation.frontier("1d") == START // DAY_MS * DAY_MS
    assert simulation.pending() == []


@pytest.mark.parametrize("jump", [-DAY_MS, -30 * DAY_MS, 30 * DAY_MS])
def test_a_jump_of_the_clock_moves_no_frontier_and_holds_up_no_repair(tmp_path, jump):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0)])
    simulation.advance(10 * MINUTE_MS)
    step_all(simulation)
    simulation.put([(1, START + 2_000, 5.0)])
    step_all(simulation)
    before = [simulation.frontier(tier.name) for tier in TIERS]

    simulation.clock.advance(jump)
    step_all(simulation)
    simulation.clock.advance(2 * MINUTE_MS)
    step_all(simulation)

    assert [simulation.frontier(tier.name) for tier in TIERS] == before
    assert simulation.pending() == []
    assert max(simulation.rows("rollup_1m"), key=lambda r: r["revision"])["count"] == 2
    assert simulation.verify().differences == []


def test_samples_of_the_future_wait_for_their_windows(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0), (1, START + 9 * MINUTE_MS, 2.0)])
    simulation.advance(5 * MINUTE_MS)
    step_all(simulation)
    assert len(simulation.rows("rollup_1m")) == 1

    simulation.advance(10 * MINUTE_MS)
    step_all(simulation)

    assert sorted(r["last_value"] for r in simulation.rows("rollup_1m")) == [1.0, 2.0]
    assert simulation.verify().differences == []


def test_ranges_rebuild_when_the_log_below_is_gone_and_late_samples_hide_in_it(tmp_path):
    """Each tier is stopped in turn while those below go on and their logs expire."""
    rng = random.Random(12)
    simulation = Simulation(tmp_path)
    for k in range(30):
        simulation.put([(k % 3, START + k * MINUTE_MS + 7, rng.random())])
    simulation.advance(2 * DAY_MS)
    step_all(simulation)
    for stopped, below in zip(range(4), ("samples", *(t.table for t in TIERS[:3])), strict=True):
        simulation.put(
            [(k % 3, START + rng.randrange(30 * MINUTE_MS), rng.random()) for k in range(5)]
        )
        simulation.clock.advance(2 * MINUTE_MS)
        for tier in TIERS[:stopped]:
            while simulation.step(tier.name) is not None:
                pass
        simulation.expire_log(below)
        tier = TIERS[stopped]
        simulation.workers[tier.name] = simulation.worker(tier)
        simulation.clock.advance(2 * MINUTE_MS)
        step_all(simulation)

    assert simulation.pending() == []
    assert simulation.verify().differences == []
