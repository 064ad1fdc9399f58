"""What a follower of the tiers takes to be late is what the logs say when they are read anew."""

from __future__ import annotations

import random

import pytest

from tests.unit.rollups.simulation import START, Simulation, random_samples
from varve.model.window import MINUTE_MS, TIERS
from varve.query.tier_tables import TierTables
from varve.rollups import time_ranges
from varve.rollups.completeness import CompletenessReader
from varve.storage import positions
from varve.storage.snapshot import Follower


def looked(tiers, samples):
    """The views after a look; samples are read after the tiers."""
    tiers.look()
    entries = samples.follow()
    tiers.apply(samples.snapshot, entries, samples.position(positions.expired()))
    return {view.tier.name: view for view in tiers.views}


def opened(store):
    tiers = TierTables(store)
    samples = Follower(store, "samples")
    tiers.apply(samples.snapshot, None, samples.position(positions.expired()))
    return tiers, samples


@pytest.mark.parametrize("seed", range(6))
def test_pending_ranges_are_those_of_the_logs_however_they_are_followed(tmp_path, seed):
    rng = random.Random(seed)
    course = Simulation(tmp_path, repair_every_ms=3 * MINUTE_MS)
    tiers, samples = opened(course.store)
    seen, is_compacted = set(), False
    for _ in range(60):
        step = rng.random()
        if step < 0.45:
            course.put(random_samples(rng, course.input_ms))
        elif step < 0.7:
            course.advance(rng.choice((20_000, 70_000, 600_000)))
        elif step < 0.95:
            course.step(rng.choice(TIERS).name)
        elif step < 0.98:
            course.compact("samples")
            is_compacted = True
        else:
            course.expire_samples(START - rng.randrange(3) * 20 * 3_600_000)
        followed = looked(tiers, samples)
        anew = {view.tier.name: view for view in opened(course.store)[0].views}
        told = {c.tier.name: c for c in CompletenessReader(course.store).refresh()}

        assert followed.keys() == anew.keys()
        for name, view in followed.items():
            version = view.versions[view.tier.table]
            assert (version, view.frontier_ms) == (told[name].version, told[name].frontier_ms)
            assert list(anew[name].pending) == time_ranges.union(told[name].pending)
            if is_compacted:
                # Whose files are deleted before they were looked into is late as a whole.
                assert not time_ranges.subtract(view.pending, anew[name].pending)
            else:
                assert view.pending == anew[name].pending
            seen.add((name, bool(view.pending)))

    assert ("1m", True) in seen


def test_without_rollup_tables_samples_answer(tmp_path):
    course = Simulation(tmp_path)
    tiers, samples = opened(course.store)

    assert looked(tiers, samples) == {}
