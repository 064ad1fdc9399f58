"""`varve reset positions`: a home whose positions lie a year ahead goes on and is exact."""

from __future__ import annotations

import pytest

from tests.unit.rollups.simulation import START, Simulation
from varve.cli.main import main
from varve.model.errors import Conflict
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, floor_to
from varve.services.position_reset import AheadPosition, positions_ahead, put_back
from varve.storage import positions
from varve.storage.commit import RESET_KEY, Step, commit
from varve.storage.log import entries
from varve.storage.table import Table

YEAR_MS = 365 * DAY_MS


@pytest.fixture
def simulation(tmp_path):
    """Two hours of a series, closed; then one look with the clock a year ahead."""
    made = Simulation(tmp_path / "tables")
    made.put([(1, START + 10_000 * k, float(k)) for k in range(720)])
    made.advance(2 * HOUR_MS)
    made.settle()
    made.put([(1, made.input_ms + 1_000, 1.0)])
    return made


def poison(simulation):
    """Completeness a year ahead, and every window up to then closed."""
    table = Table(simulation.store, "samples")
    name = positions.complete("bulk")
    step = Step(table.position(name), simulation.input_ms + YEAR_MS)
    commit(table, [], transactions={name: step})
    for tier in TIERS:
        while simulation.step(tier.name) is not None:
            pass


def live_on(simulation, minutes):
    """Samples, of which some are late, and input that is complete up to the true time."""
    for _ in range(minutes):
        now_ms = simulation.input_ms
        simulation.put([(1, now_ms + 7_000, 2.0), (1, now_ms - HOUR_MS + 1, 3.0)])
        simulation.input_ms += MINUTE_MS
        simulation.clock.advance(MINUTE_MS)
        table, name = Table(simulation.store, "samples"), positions.complete("bulk")
        held = table.position(name)
        commit(table, [], transactions={name: Step(held, max(held, simulation.input_ms))})
        for tier in TIERS:
            simulation.step(tier.name)


def frontiers(simulation):
    return {tier.name: simulation.frontier(tier.name) for tier in TIERS}


@pytest.mark.parametrize("is_noticed_late", [False, True])
def test_a_home_a_year_ahead_is_put_back_and_every_row_is_exact(simulation, is_noticed_late):
    before = frontiers(simulation)
    poison(simulation)
    if is_noticed_late:
        live_on(simulation, 10)
    assert min(frontiers(simulation).values()) > START + YEAR_MS - DAY_MS

    ahead = positions_ahead(simulation.store, simulation.input_ms)
    put_back(simulation.store, ahead)

    assert [p.name for p in ahead] == ["complete:bulk", *(f"frontier:{t.name}" for t in TIERS)]
    assert frontiers(simulation) == {
        name: floor_to(simulation.input_ms, DAY_MS) if at is None else at
        for name, at in before.items()
    }
    assert positions_ahead(simulation.store, simulation.input_ms) == []
    live_on(simulation, 10)
    simulation.settle()
    assert simulation.frontier("1m") >= simulation.input_ms - 2 * MINUTE_MS
    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_a_worker_that_runs_meanwhile_notices(simulation):
    poison(simulation)
    planned = simulation.workers["1m"].plan_close()
    assert planned is None
    put_back(simulation.store, positions_ahead(simulation.store, simulation.input_ms))

    live_on(simulation, 5)
    simulation.settle()

    assert simulation.verify().differences == []


def test_where_the_log_has_expired_frontiers_go_back_to_now_and_completeness_is_unknown(simulation):
    poison(simulation)
    for name in ("samples", *(tier.table for tier in TIERS)):
        simulation.expire_log(name)

    ahead = positions_ahead(simulation.store, simulation.input_ms)

    assert [p.back_to_ms for p in ahead] == [
        0,
        *(floor_to(simulation.input_ms, tier.width_ms) for tier in TIERS),
    ]
    put_back(simulation.store, ahead)
    live_on(simulation, 5)
    simulation.settle()
    assert simulation.verify().differences == []


def test_the_commit_says_what_it_moved_and_why(simulation):
    poison(simulation)
    (first, *_) = positions_ahead(simulation.store, simulation.input_ms)
    put_back(simulation.store, [first])

    table = Table(simulation.store, "samples")
    (entry,) = entries(simulation.store, "samples", table.version - 1, table.version)
    assert entry.metadata == {
        RESET_KEY: {"complete:bulk": [first.at_ms, first.back_to_ms]},
        "reason": "varve reset positions",
    }


def test_a_position_that_has_moved_since_is_left_alone(simulation):
    poison(simulation)
    stale = AheadPosition("samples", "complete:bulk", simulation.input_ms + YEAR_MS - 1, START)

    with pytest.raises(Conflict, match="complete:bulk"):
        put_back(simulation.store, [stale])


def test_the_command_shows_from_and_to_and_changes_nothing_without_yes(
    simulation, capsys, monkeypatch
):
    monkeypatch.setattr("varve.model.clock.SystemClock.now_ms", lambda _: simulation.input_ms)
    home = str(simulation.store.root).removesuffix("/tables")
    assert main(["reset", "positions", "--home", home, "--yes"]) == 0
    assert "no position of" in capsys.readouterr().out
    poison(simulation)
    stored = Table(simulation.store, "samples").position("complete:bulk")

    assert main(["reset", "positions", "--home", home]) == 1

    shown = capsys.readouterr().out
    assert "complete:bulk      2028-01-15T09:06:00Z  ->  2027-01-15T09:06:00Z" in shown
    assert "frontier:1d" in shown
    assert "say --yes" in shown
    assert Table(simulation.store, "samples").position("complete:bulk") == stored
    assert main(["reset", "positions", "--home", home, "--yes"]) == 0
    assert "put back 5 positions" in capsys.readouterr().out
    assert positions_ahead(simulation.store, simulation.input_ms) == []
