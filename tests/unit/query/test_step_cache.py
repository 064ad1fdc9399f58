"""Steps that are kept: every answer is, byte for byte, the one that computes all of them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tests.unit.query.step_worlds import EXPRESSIONS, SERIES, STEP_MS, T, World, change, steady
from varve.model.window import HOUR_MS, MINUTE_MS, RAW
from varve.promql import result_json
from varve.promql.engine import Engine
from varve.promql.testing import MemoryStorage
from varve.query import step_cache, tier_choice
from varve.query.changes import Changes
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import STEPS, MemoryBudget
from varve.query.step_cache import StepCache
from varve.storage.log import LiveFile, LogEntry

NO_MARKS = np.zeros((1, 61), np.uint64)


@pytest.fixture
def world(tmp_path):
    made = World(str(tmp_path))
    yield made
    made.followed.close()


@pytest.fixture(autouse=True)
def _no_selection_is_cheap(monkeypatch):
    """Rows answer wherever they can."""
    monkeypatch.setattr(tier_choice, "CHEAP_SAMPLES", 0)
    monkeypatch.setattr(tier_choice, "_WORTH", 100.0)


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_answers_as_if_nothing_were_kept(world, seed):
    rng = Random(seed)
    panels = [*rng.sample(EXPRESSIONS[:3], 1), *rng.sample(EXPRESSIONS[3:], 2)]
    minute = 40
    for _ in range(40):
        minute = change(world, rng, minute)
        for panel, tier in zip(panels, (None, None, RAW), strict=True):
            world.refresh(panel, rng.choice((60, 60, 60, 45)), tier)

    assert world.cached > world.asked / 3


def test_a_steady_panel_computes_new_steps_alone(world):
    steady(world, EXPRESSIONS[1:5], 120)

    assert world.cached >= 0.9 * world.asked
    assert world.tiers.keys() >= {"raw", "1m"}


def test_what_depends_on_more_than_its_own_time_is_not_kept(world):
    for text in (
        "x_total @ end()",
        "max_over_time(sum(x_total)[10m:1m])",
        "rate(x_total[step()*3])",
        "time()",
        "sum(x_total @ 1795338000)",
    ):
        world.refresh(text)

        assert world.cache.nbytes == 0, text


def test_answers_with_infos_or_of_another_snapshot_are_not_kept(world):
    world.followed.poll()
    view, times = world.followed.view, Range(T, T + HOUR_MS, STEP_MS)

    nothing = evaluate(view, "y", times, Options(steps=world.cache, say_why_empty=True))
    evaluate(replace(view, changes=None), "x_total", times, Options(steps=world.cache))

    assert nothing.result.infos
    assert world.cache.nbytes == 0


def test_an_older_view_takes_nothing_from_a_newer_one_and_leaves_it(world):
    world.refresh("x_total")
    older, end = world.followed.view, world.now // STEP_MS * STEP_MS
    world.put([5], [1])
    world.tables.put([(SERIES[1].series_id, T + 20 * MINUTE_MS + 1, 1e6)])
    world.refresh("x_total")
    times = Range(end - HOUR_MS, end, STEP_MS)

    got = evaluate(older, "x_total", times, Options(steps=world.cache))

    assert got.provenance.cached == 0
    wanted = evaluate(older, "x_total", times, Options()).result
    assert result_json.to_json(got.result) == result_json.to_json(wanted)
    assert world.refresh("x_total").provenance.cached == 61


def test_the_least_recently_used_go_past_the_bound_and_are_counted():
    budget = MemoryBudget(1 << 30)
    engine = Engine(MemoryStorage.of({(("__name__", "x"),): [(T, 1.0, 0)]}))
    kept = step_cache.keepable(engine.range("x", T, T + HOUR_MS, STEP_MS), {}, NO_MARKS)
    cache = StepCache(3 * kept.nbytes, budget)

    for number in range(5):
        cache.put((f"x{number}", 1, 0, 0, None), kept)
        assert cache.get(("x0", 1, 0, 0, None)) is not None

    assert cache.get(("x1", 1, 0, 0, None)) is None
    assert cache.get(("x4", 1, 0, 0, None)) is kept
    assert budget.used[STEPS] == cache.nbytes == 3 * kept.nbytes


def test_changes_are_known_as_far_back_as_they_are_kept():
    def commit(version):
        file = LiveFile(f"f{version}", 1, 1, {"ts": version}, {"ts": version + 1})
        return LogEntry(version, adds=(file,)), ()

    changes = Changes(10).extended(commit(v) for v in range(11, 6_000))

    assert changes.after(5_997) == ((5_998, 5_999), (5_999, 6_000))
    assert changes.after(5_999) == ()
    assert changes.after(10) is None
    assert len(changes.after(changes.since)) == len(changes.versions) == 4_096


def test_what_a_colder_root_loses_is_a_change_of_the_version_that_was_there():
    file = LiveFile("f", 1, 1, {"ts": 7}, {"ts": 9})
    known = Changes(10).extended([(LogEntry(11, adds=(file,)), ())])
    lost = LogEntry(11, removes=("f",), loses_rows=True)

    at_once = Changes(10).extended([(LogEntry(11, adds=(file,)), ()), (lost, [file])])
    later = known.extended([(lost, [file])])
    unknown = known.extended([(LogEntry(12, loses_rows=True), None)])

    assert at_once.after(10) == ((7, 9), (7, 9))
    assert later.after(11) is None
    assert later.extended([(LogEntry(12, adds=(file,)), ())]).after(12) == ()
    assert (unknown.after(11), unknown.after(12)) == (None, ())
