"""Answers from rollups are those of the samples, wherever windows lie and whatever is pending."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.tables import QUERY
from tests.unit.query import tier_queries
from tests.unit.query.far_queries import InProcess, check_far, far_question
from tests.unit.query.tier_queries import FORCED, FUNCTION_NAMES, STAGES, build, check, question
from varve.query import tier_choice
from varve.query.tables import Tables

CACHE_BYTES = 64 << 20
QUERIES = 60
FAR_QUERIES = len(FUNCTION_NAMES)


@pytest.fixture(scope="module", params=STAGES)
def opened(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    world = build(str(root), request.param, Random(request.param))
    tables = Tables(world.tables.store, [QUERY], CACHE_BYTES)
    yield world, tables.view
    tables.close()


@pytest.fixture(autouse=True)
def _no_selection_is_cheap(monkeypatch):
    monkeypatch.setattr(tier_choice, "CHEAP_SAMPLES", 0)
    monkeypatch.setattr(tier_choice, "_WORTH", 100.0)


@pytest.mark.parametrize("tier", FORCED)
def test_random_queries_are_answered_as_from_the_samples(opened, tier):
    world, view = opened
    rng = Random(f"{world.stage} {tier}")
    kinds = Counter()
    for i in range(QUERIES):
        asked = question(rng, FUNCTION_NAMES[i % len(FUNCTION_NAMES)], tier, world.stage)
        try:
            kinds[check(world, view, asked)] += 1
        except AssertionError as err:
            err.add_note(f"{world.stage}: {asked.text}  {asked}")
            raise

    assert kinds["raw"] == QUERIES if tier == "raw" and world.stage != "expired" else kinds


def test_executors_give_the_bytes_that_are_computed_here(opened):
    world, view = opened
    rng = Random(f"far {world.stage}")
    executors = InProcess(world.tables.store)
    for number in range(FAR_QUERIES):
        asked, expression = far_question(rng, number, rng.choice(FORCED), world.stage)
        try:
            check_far(view, asked, expression, executors)
        except AssertionError as err:
            err.add_note(f"{world.stage}: {expression}  {asked}")
            raise

    assert executors.tasks > executors.jobs > FAR_QUERIES / 2


def test_the_worlds_are_what_they_say(opened):
    world, view = opened
    pending = [view.tier.name for view in view.tiers if view.pending]

    assert bool(pending) is (world.stage in ("late", "half repaired"))
    assert (view.raw_from_ms is not None) is (world.stage == "expired")
    assert view.tiers[0].frontier_ms > tier_queries.T
