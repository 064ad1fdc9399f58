"""Whatever comes late, dies or races: in the end every row equals a recomputation from raw."""

from __future__ import annotations

import random

import pytest

from tests.unit.rollups import naive
from tests.unit.rollups.simulation import START, Simulation, files_of, random_samples
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS

NAMES = [tier.name for tier in TIERS]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """A few samples are a backlog: several tasks, several commits, several ranges of series."""
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_PER_TASK", 20)
    monkeypatch.setattr("varve.rollups.task_ranges.LEAST_ROWS", 5)
    monkeypatch.setattr("varve.rollups.task_ranges.ROWS_TO_LOOK_THROUGH", 40)
    monkeypatch.setattr("varve.rollups.tier_tasks.WAVES_PER_STEP", 1)


def run(simulation: Simulation, rng: random.Random, steps: int) -> None:
    for _ in range(steps):
        tier = rng.choice(NAMES)
        match rng.choices(
            ("put", "advance", "step", "crash", "race", "jump", "compact", "log"),
            (30, 20, 30, 8, 6, 2, 3, 1),
        )[0]:
            case "put":
                simulation.put(random_samples(rng, simulation.input_ms))
            case "advance":
                ms = rng.choice([5_000, 30_000, 70_000, 130_000, HOUR_MS, DAY_MS])
                simulation.advance(ms)
            case "step":
                simulation.step(tier)
            case "crash":
                simulation.crash(tier, when=rng.choice(["planned", "written", "committed"]))
            case "race":
                between = random_samples(rng, simulation.input_ms) if rng.random() < 0.5 else []
                simulation.race(tier, new_between=between)
            case "jump":
                simulation.clock.advance(rng.choice([-DAY_MS, DAY_MS, -HOUR_MS]))
            case "compact":
                simulation.compact(rng.choice(["samples", "rollup_1m", "rollup_5m", "rollup_1h"]))
            case "log":
                simulation.expire_log(rng.choice(["samples", "rollup_1m", "rollup_5m"]))


def check(simulation: Simulation) -> None:
    report = simulation.verify()
    assert report.differences == []
    assert simulation.pending() == []
    for tier in TIERS:
        frontier = simulation.frontier(tier.name)
        want = naive.windows(simulation.samples, tier.width_ms)
        closed = [k for k in want if frontier is not None and k[1] <= frontier]
        assert report.rows[tier.name] == len(closed), tier.name


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_exact_after_any_course_of_events(tmp_path, seed):
    rng = random.Random(seed)
    simulation = Simulation(tmp_path)

    run(simulation, rng, 80)
    simulation.settle()

    check(simulation)


@pytest.mark.parametrize("seed", range(2))
def test_two_courses_over_the_same_samples_end_in_the_same_bits(tmp_path, seed):
    rng = random.Random(1_000 + seed)
    left, right = Simulation(tmp_path / "left"), Simulation(tmp_path / "right")
    run(left, rng, 50)
    shuffled = rng.sample(left.samples, len(left.samples))
    while shuffled:
        size = rng.randint(1, 20)
        right.put([*shuffled[:size], *rng.choices(left.samples, k=3)])
        right.step(rng.choice(NAMES))
        shuffled = shuffled[size:]
    right.advance(left.input_ms - right.input_ms)

    left.settle()
    right.settle()

    for tier in TIERS:
        assert newest(left, tier.table) == newest(right, tier.table)


def newest(simulation, table):
    found = {}
    for row in sorted(simulation.rows(table), key=lambda r: r["revision"]):
        key = (row["series_id"], row["window_end"])
        found[key] = repr({k: v for k, v in row.items() if k != "revision"})
    return found


@pytest.mark.parametrize("when", ["planned", "written", "committed"])
def test_a_crash_between_any_two_commits_leaves_no_trace(tmp_path, when):
    rng = random.Random(7)
    crashing, steady = Simulation(tmp_path / "a"), Simulation(tmp_path / "b")
    for _ in range(15):
        batch = random_samples(rng, crashing.input_ms, most=30)
        for simulation in (crashing, steady):
            simulation.put(batch)
            simulation.advance(45_000)
        for name in NAMES:
            crashing.crash(name, when=when)
            crashing.step(name)
            steady.step(name)
    crashing.settle()
    steady.settle()

    check(crashing)
    for tier in TIERS:
        assert newest(crashing, tier.table) == newest(steady, tier.table)


def test_what_late_samples_did_is_noted_once_whatever_crashes(tmp_path):
    simulation = Simulation(tmp_path, repair_every_ms=0)
    live = [(1, START + 10_000 * k, 1.0) for k in range(30)]
    simulation.put(live)
    simulation.advance(6 * MINUTE_MS)
    simulation.step("1m")
    simulation.put([(1, START + 5_000, 7.0), (1, START + 65_000, 7.0)])
    simulation.crash("1m", when="committed")
    simulation.workers["1m"].recover()

    simulation.settle()

    noted = [r for r in simulation.rows("repairs") if r["tier"] == "1m"]
    assert [(r["start_ms"], r["end_ms"], r["status"], r["windows"]) for r in noted] == [
        (START, START + 2 * MINUTE_MS, "repaired", 2)
    ]
    check(simulation)


def test_windows_of_expired_samples_keep_their_row_and_are_noted_as_refused(tmp_path):
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START + 10_000 * k, 1.0) for k in range(60)])
    simulation.advance(11 * MINUTE_MS)
    simulation.settle()
    simulation.expire_samples(START + 5 * MINUTE_MS)
    simulation.put([(1, START + 61_000, 9.0), (1, START + 8 * MINUTE_MS - 1, 9.0)])
    simulation.settle()

    rows = {r["window_end"]: r for r in simulation.rows("rollup_1m") if r["count"] == 6}
    assert rows[START + 2 * MINUTE_MS]["max"] == 1.0
    statuses = [
        (r["status"], r["windows"]) for r in simulation.rows("repairs") if r["tier"] == "1m"
    ]
    assert sorted(statuses) == [("refused", 1), ("repaired", 1)]
    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_windows_whose_samples_expired_before_they_closed_are_never_made(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 10_000 * k, 1.0) for k in range(1, 60)])
    simulation.advance(MINUTE_MS)
    simulation.step("1m")
    simulation.advance(20 * MINUTE_MS)
    simulation.expire_samples(START + 7 * MINUTE_MS + 1)
    simulation.settle()

    ends = sorted(r["window_end"] for r in simulation.rows("rollup_1m"))
    assert [(e - START) // MINUTE_MS for e in ends] == [9, 10]
    assert simulation.verify().differences == []


def test_a_tier_stopped_for_longer_than_its_sources_log_rebuilds_exactly(tmp_path):
    rng = random.Random(3)
    simulation = Simulation(tmp_path)
    for _ in range(5):
        simulation.put(random_samples(rng, simulation.input_ms, most=40))
        simulation.advance(HOUR_MS)
    simulation.settle()
    for _ in range(5):
        simulation.put(random_samples(rng, simulation.input_ms, most=40))
    for name in ("samples", "rollup_1m", "rollup_5m", "rollup_1h"):
        simulation.expire_log(name)
    for tier in TIERS:
        simulation.workers[tier.name] = simulation.worker(tier)

    simulation.settle()

    check(simulation)


def test_a_rival_that_closed_from_an_older_version_is_noticed(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0)])
    simulation.advance(2 * MINUTE_MS)
    simulation.step("1m")
    patient = simulation.worker(TIERS[0], grace_ms=HOUR_MS)
    patient.plan()
    simulation.advance(3 * MINUTE_MS)
    older = simulation.workers["1m"].plan()
    simulation.put([(1, START + 3 * MINUTE_MS, 1.0)])
    assert patient.plan() is None
    simulation.workers["1m"].commit(older, files_of(older))
    simulation.workers["1m"] = patient

    for _ in range(2):
        simulation.clock.advance(2 * MINUTE_MS)
        simulation.step("1m")

    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_what_comes_behind_a_sweep_survives_a_crash_at_its_end(tmp_path):
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START + 5_000 * k, 1.0) for k in range(720)])
    simulation.advance(2 * HOUR_MS)
    simulation.settle()
    simulation.put([(1, START + 5_000 * k + 1, 2.0) for k in range(720)])
    first = simulation.step("1m")
    assert first.more
    simulation.put([(1, START + 7, 3.0)])
    for _ in range(1_000):
        if (planned := simulation.step("1m")).ends_sweep:
            break
    assert planned.ends_sweep
    simulation.workers["1m"] = simulation.worker(TIERS[0])

    simulation.settle()

    check(simulation)


def test_a_late_sample_is_found_after_a_crash_though_its_window_closed_since_the_mark(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0)])
    simulation.advance(2 * MINUTE_MS)
    simulation.step("1m")
    simulation.put([(1, START + 2_000, 1.0)])  # waits: `source:` stays here
    simulation.step("1m")
    simulation.advance(2 * MINUTE_MS)
    simulation.step("1m")
    simulation.put([(1, START + 2 * MINUTE_MS, 1.0)])
    simulation.workers["1m"] = simulation.worker(TIERS[0])

    simulation.settle()

    check(simulation)


def test_a_stalled_input_holds_the_frontier_and_its_return_moves_it(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0)])
    simulation.advance(5 * MINUTE_MS)
    simulation.settle()
    at = simulation.frontier("1m")

    simulation.clock.advance(DAY_MS)
    for name in NAMES:
        simulation.step(name)
    assert simulation.frontier("1m") == at

    simulation.advance(MINUTE_MS)
    simulation.step("1m")
    assert simulation.frontier("1m") == at + MINUTE_MS


def test_repairs_are_flushed_while_input_idles(tmp_path):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 1_000, 1.0)])
    simulation.advance(2 * DAY_MS)
    simulation.settle()
    simulation.put([(1, START + 2_000, 5.0)])
    for _ in range(3):
        simulation.clock.advance(61_000)
        for name in NAMES:
            simulation.step(name)

    for tier in TIERS:
        best = max(simulation.rows(tier.table), key=lambda r: r["revision"])
        assert best["count"] == 2, tier.name
    assert simulation.pending() == []


def test_backfilled_days_are_repaired_by_whole_hours(tmp_path, monkeypatch):
    monkeypatch.setattr("varve.rollups.pending_repairs.DENSE", 200)
    simulation = Simulation(tmp_path, repair_keys=10**9)
    simulation.put([(s, START + 1_000, 1.0) for s in range(10)])
    simulation.advance(5 * MINUTE_MS)
    simulation.settle()
    for day in (2, 1, 3):
        begin = START - day * DAY_MS
        simulation.put([(s, begin + k * 30_000, float(k)) for s in range(10) for k in range(240)])
        simulation.workers["1m"].plan()
    assert len(simulation.workers["1m"]._pending) < 200

    simulation.settle()

    check(simulation)
