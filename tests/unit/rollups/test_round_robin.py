"""Who is next: nobody waits for long, and everything is done."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.unit.rollups.simulation import START, Simulation, files_of
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS
from varve.rollups.round_robin import RoundRobin
from varve.rollups.tier_health import LAST_RETRY_S


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


class Failing:
    """Makes one step of a tier's worker fail for a while."""

    def __init__(self, monkeypatch, worker, method, error):
        self.error, self.tries = error, 0
        original = getattr(worker, method)

        def step(*arguments, **options):
            self.tries += 1
            if self.error is not None:
                raise self.error
            return original(*arguments, **options)

        monkeypatch.setattr(worker, method, step)


def run_round(round_robin):
    """Makes the commits that there are now; what fails is left to the round robin."""
    made = []
    while (next_commit := round_robin.next()) is not None:
        worker, planned = next_commit
        try:
            worker.commit(planned, files_of(planned))
        except OSError as err:
            round_robin.failed(worker, err)
        else:
            round_robin.succeeded(worker)
            made.append(worker.tier.name)
    return made


@pytest.mark.parametrize("method", ["plan_close", "plan_repair", "commit"])
def test_a_tier_that_fails_leaves_the_others_running_and_comes_back(
    simulation, monkeypatch, method, caplog
):
    now = [0.0]
    round_robin = RoundRobin(
        [simulation.workers[tier.name] for tier in TIERS], now_s=lambda: now[0]
    )
    worker = simulation.workers["5m"]
    failing = Failing(monkeypatch, worker, method, OSError("the bucket is away"))

    made = run_round(round_robin)

    assert "5m" not in made or method == "plan_repair"
    assert "1m" in made
    assert round_robin.failure(worker) == "OSError: the bucket is away"
    assert "tier 5m failed" in caplog.text
    for name in ("1m", "1h", "1d"):
        assert round_robin.failure(simulation.workers[name]) == ""

    failing.error = None
    now[0] += LAST_RETRY_S
    run_round(round_robin)
    assert round_robin.failure(worker) == ""
    assert "tier 5m works again" in caplog.text
    simulation.settle()
    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_a_tier_that_goes_on_failing_is_tried_ever_more_seldom_and_for_ever(
    simulation, monkeypatch
):
    now = [0.0]
    round_robin = RoundRobin(
        [simulation.workers[tier.name] for tier in TIERS], now_s=lambda: now[0]
    )
    failing = Failing(monkeypatch, simulation.workers["1m"], "plan_close", OSError("away"))
    tried_at = []

    while now[0] < 3_600:
        before = failing.tries
        run_round(round_robin)
        if failing.tries > before:
            tried_at.append(now[0])
        now[0] += 0.5

    waits = [b - a for a, b in pairwise(tried_at)]
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == LAST_RETRY_S
    assert 3_600 / LAST_RETRY_S <= len(tried_at) <= 3_600 / LAST_RETRY_S + 10
