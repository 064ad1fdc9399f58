"""A data file that is missing or damaged: what does not need it goes on, the rest waits for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.unit.rollups import naive
from tests.unit.rollups.simulation import START, Simulation, files_of, random_samples
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, Window
from varve.rollups.pending_repairs import LAST_RETRY_MS
from varve.rollups.task import TaskOutcome, attempt_task
from varve.storage import positions
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

DAMAGES = {
    "missing": None,
    "empty": b"",
    "cut": b"PAR1" + bytes(50),
}


class Lost:
    """A live file of a table that is taken away or damaged, and may come back."""

    def __init__(self, simulation: Simulation, table: str, number: int, damage: str = "missing"):
        self.file = snapshot(simulation.store, table).files[number]
        self.path = Path(simulation.store.uri(table)) / self.file.path
        self.content = self.path.read_bytes()
        self.path.unlink()
        if DAMAGES[damage] is not None:
            self.path.write_bytes(DAMAGES[damage])

    def come_back(self) -> None:
        self.path.write_bytes(self.content)


@pytest.fixture
def simulation(tmp_path):
    """Ten minutes of two series, a file a minute, of which nothing is closed yet."""
    made = Simulation(tmp_path / "tables", repair_every_ms=0)
    for minute in range(10):
        begin = START + minute * MINUTE_MS
        made.put([(s, begin + 10_000 * k + 1, float(k)) for s in (1, 2) for k in range(6)])
    return made


def minutes_of(simulation):
    """Ends of the 1m windows that there are, in minutes from the start."""
    return sorted(
        {(row["window_end"] - START) // MINUTE_MS for row in simulation.rows("rollup_1m")}
    )


def step_until_idle(simulation, most=20):
    for _ in range(most):
        if all(simulation.step(tier.name) is None for tier in TIERS):
            return
    raise AssertionError("the tiers find work for ever")


def source(simulation, tier="1m"):
    return Table(simulation.store, f"rollup_{tier}").position(positions.source(tier))


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_windows_but_those_of_the_file_are_closed_and_it_is_named(simulation, damage, caplog):
    lost = Lost(simulation, "samples", 4, damage)

    simulation.advance(11 * MINUTE_MS)
    step_until_idle(simulation)

    assert minutes_of(simulation) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert simulation.frontier("1m") == START + 10 * MINUTE_MS
    gap = Window(START + 4 * MINUTE_MS, START + 5 * MINUTE_MS)
    assert gap in simulation.pending()
    (named,) = simulation.workers["1m"].progress().unreadable
    assert named.startswith(f"samples/{lost.file.path} ")
    assert named in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("crashes", [False, True])
def test_when_the_file_is_back_its_windows_are_repaired(simulation, damage, crashes):
    lost = Lost(simulation, "samples", 4, damage)
    simulation.advance(11 * MINUTE_MS)
    step_until_idle(simulation)
    before = source(simulation)
    if crashes:
        for tier in TIERS:
            simulation.workers[tier.name] = simulation.worker(tier)
        step_until_idle(simulation)
        assert len(simulation.workers["1m"]._pending.blocked) == 1

    lost.come_back()
    simulation.clock.advance(LAST_RETRY_MS)
    step_until_idle(simulation)
    simulation.settle()

    assert minutes_of(simulation)[:10] == list(range(1, 11))
    assert simulation.pending() == []
    assert simulation.workers["1m"].progress().unreadable == ()
    assert source(simulation) > (-1 if before is None else before)
    assert simulation.verify().differences == []


def test_a_file_that_stays_away_is_tried_seldom_and_holds_source_where_it_is(simulation):
    Lost(simulation, "samples", 4)
    simulation.advance(11 * MINUTE_MS)
    step_until_idle(simulation)
    begun, tries = Table(simulation.store, "rollup_1m").version, 0

    for _ in range(60):
        simulation.clock.advance(MINUTE_MS)
        step_until_idle(simulation)
    tries = Table(simulation.store, "rollup_1m").version - begun

    assert 5 <= tries <= 2 * 60 // 8
    assert source(simulation) is None


def test_late_samples_elsewhere_are_repaired_meanwhile(simulation):
    simulation.advance(11 * MINUTE_MS)
    simulation.settle()
    lost = Lost(simulation, "samples", 4)
    simulation.put([(1, START + 10 * k * 1_000 + 5, 50.0) for k in range(60)])
    step_until_idle(simulation)

    newest = {}
    for row in sorted(simulation.rows("rollup_1m"), key=lambda r: r["revision"]):
        newest[row["series_id"], (row["window_end"] - START) // MINUTE_MS] = row["max"]
    assert {minute for (s, minute), top in newest.items() if s == 1 and top == 50.0} == {
        *range(1, 5),
        *range(6, 11),
    }
    assert newest[1, 5] == 5.0  # as it was
    lost.come_back()
    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()
    assert simulation.verify().differences == []


def test_a_tier_above_waits_for_a_file_of_the_tier_below_and_the_others_do_not(simulation):
    for minute in range(10, 130):
        simulation.put([(1, START + minute * MINUTE_MS + 1, 1.0)])
    simulation.advance(65 * MINUTE_MS)
    while simulation.step("1m") is not None:
        pass
    lost = Lost(simulation, "rollup_1m", 0)
    simulation.advance(70 * MINUTE_MS)
    step_until_idle(simulation)

    assert simulation.workers["5m"].progress().unreadable
    assert simulation.workers["1m"].progress().unreadable == ()
    assert simulation.frontier("5m") == START + 130 * MINUTE_MS
    assert simulation.rows("rollup_5m")  # of the second file
    lost.come_back()
    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()
    assert simulation.pending() == []
    assert simulation.verify().differences == []


@pytest.mark.parametrize("closed_before", [False, True])
def test_a_loss_that_is_accepted_leaves_rows_of_what_is_left(simulation, closed_before):
    if closed_before:
        simulation.advance(11 * MINUTE_MS)
        simulation.settle()
    Lost(simulation, "samples", 4)
    simulation.put([(1, START + 4 * MINUTE_MS + 7, 9.0)])
    if not closed_before:
        simulation.advance(11 * MINUTE_MS)
    step_until_idle(simulation)
    assert simulation.workers["1m"].progress().unreadable

    DeltaTable(simulation.store.uri("samples")).repair()
    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()

    assert simulation.pending() == []
    report = simulation.verify()
    # Of a series that has nothing left a row stays where there was one.
    gone = [(d.series_id, d.window_end - START) for d in report.differences if d.computed is None]
    assert gone == ([(2, 5 * MINUTE_MS)] * len(gone))
    assert [d for d in report.differences if d.tier == "1m" and d.computed is not None] == []


def test_what_waits_for_a_lost_file_is_refused_once_its_samples_have_expired(simulation):
    Lost(simulation, "samples", 4)
    simulation.advance(11 * MINUTE_MS)
    step_until_idle(simulation)

    simulation.expire_samples(START + 6 * MINUTE_MS)
    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()

    assert simulation.pending() == []
    assert source(simulation) is not None
    assert ("refused", "1m") in {(r["status"], r["tier"]) for r in simulation.rows("repairs")}


@pytest.mark.parametrize("seed", range(3))
def test_files_that_go_and_come_back_leave_no_trace(tmp_path, seed, monkeypatch):
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_PER_TASK", 20)
    monkeypatch.setattr("varve.rollups.task_ranges.LEAST_ROWS", 5)
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_TO_LOOK_THROUGH", 40)
    rng, lost = random.Random(seed), []
    simulation = Simulation(tmp_path)
    for _ in range(70):
        match rng.choices(
            ("put", "advance", "step", "crash", "lose", "back"), (30, 20, 30, 4, 6, 5)
        )[0]:
            case "put":
                simulation.put(random_samples(rng, simulation.input_ms))
            case "advance":
                simulation.advance(rng.choice([30_000, 70_000, 130_000, HOUR_MS, DAY_MS]))
            case "step":
                simulation.step(rng.choice(TIERS).name)
            case "crash":
                simulation.crash(rng.choice(TIERS).name, when="planned")
            case "lose":
                table = rng.choice(["samples", "rollup_1m", "rollup_5m"])
                there = len(snapshot(simulation.store, table).files)
                if there and not any(part.path.parent.name == table for part in lost):
                    damage = rng.choice(list(DAMAGES))
                    lost.append(Lost(simulation, table, rng.randrange(there), damage))
            case "back":
                while lost:
                    lost.pop().come_back()
    while lost:
        lost.pop().come_back()

    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()
    simulation.clock.advance(LAST_RETRY_MS)
    simulation.settle()

    assert simulation.pending() == []
    report = simulation.verify()
    assert report.differences == []
    for tier in TIERS:
        frontier = simulation.frontier(tier.name)
        want = naive.windows(simulation.samples, tier.width_ms)
        assert report.rows[tier.name] == sum(
            frontier is not None and end <= frontier for _, end in want
        )


def test_an_outcome_survives_its_journey_to_the_driver(simulation):
    Lost(simulation, "samples", 4)
    simulation.advance(11 * MINUTE_MS)
    planned = simulation.workers["1m"].plan()

    outcomes = [attempt_task(task) for task in planned.tasks]

    assert [TaskOutcome.from_json(outcome.to_json()) for outcome in outcomes] == outcomes
    assert any(outcome.gaps and outcome.file is not None for outcome in outcomes)
    with pytest.raises(FileNotFoundError):
        files_of(planned)
