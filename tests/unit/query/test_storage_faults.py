"""Every call to the storage may fail: follower, head, cold reader and kept steps get over it."""

from __future__ import annotations

from tests.unit.query.faulty_worlds import ANSWERS, FaultyWorld
from varve.query import tier_choice


def test_amid_faults_answers_are_right_or_errors_and_two_polls_later_as_of_a_fresh_process(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tier_choice, "CHEAP_SAMPLES", 0)
    monkeypatch.setattr(tier_choice, "_WORTH", 100.0)
    world = FaultyWorld(tmp_path, seed=1)

    world.go(12)

    world.close()
    assert world.faults.met.keys() == {*ANSWERS, "slow"}
    assert world.answered
    assert world.failed
