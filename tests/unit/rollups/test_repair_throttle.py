from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.rollups.repair_throttle import RepairThrottle


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=30), st.sampled_from([0.1, 0.25, 0.5]))
def test_work_takes_its_share_of_the_time_in_the_long_run(pieces, share):
    throttle, now, spent = RepairThrottle(share), 0, 0
    for piece in pieces:
        while throttle.is_paused(now):
            now += 100
        now += piece
        spent += piece
        throttle.record(piece, now)
    while throttle.is_paused(now):
        now += 1

    assert spent <= share * now + len(pieces)


def test_work_during_a_rest_makes_it_longer():
    throttle = RepairThrottle(0.25)
    throttle.record(100, 1_000)
    throttle.record(100, 1_100)

    assert throttle.is_paused(1_599)
    assert not throttle.is_paused(1_600)


@pytest.mark.parametrize("now", [999, 1_300, -(10**12)])
def test_a_rest_ends_in_time_or_when_the_clock_is_set_back(now):
    throttle = RepairThrottle(0.25)
    throttle.record(100, 1_000)

    assert not throttle.is_paused(now)
