"""Alerts that end and begin again and again are told once, and their end once they are quiet."""

from __future__ import annotations

import pytest

from tests.unit.notify.oncall.test_on_call import START_MS, Run

ON_CALL = "flapping: {fires: 3, within: 30m}"


def flap(run, times):
    """A fires for 2 minutes and is quiet for 2, so many times."""
    for _ in range(times):
        run.minutes(2, "A")
        run.fires("A", ends=True)
        run.minutes(2)


def states(run):
    return [status for _, _, status in run.told]


def test_from_the_third_beginning_on_nothing_is_told_until_it_is_quiet():
    run = Run(ON_CALL)

    flap(run, 6)
    assert states(run) == ["firing", "resolved", "firing", "resolved", "firing"]
    run.minutes(30)

    assert states(run)[5:] == ["resolved"]
    # The third last of six beginnings, at minutes 0, 4 ... 20, is 30 minutes ago at minute 42.
    assert run.told[5][0] in {42, 43}


def test_without_the_setting_each_time_is_told():
    run = Run("")

    flap(run, 6)

    assert states(run) == ["firing", "resolved"] * 6


def test_what_flaps_fires_on_after_a_restart():
    run = Run(ON_CALL)
    flap(run, 3)
    told = states(run)

    again = Run(ON_CALL, run.notifier.snapshot())
    again.now_ms = run.now_ms
    again.minutes(5)

    assert told[-1] == "firing"
    assert again.told == []


def test_one_that_is_sent_again_while_it_fires_does_not_flap():
    run = Run(ON_CALL)
    run.minutes(20, "A")
    run.fires("A", ends=True)

    run.minutes(2)

    assert states(run) == ["firing", "resolved"]


@pytest.mark.parametrize("gap", [16, 40])
def test_beginnings_that_lie_far_apart_are_none(gap):
    run = Run(ON_CALL)
    for _ in range(4):
        run.minutes(1, "A")
        run.fires("A", ends=True)
        run.minutes(gap)

    assert states(run) == ["firing", "resolved"] * 4
    assert run.told[0][0] == (START_MS - START_MS)
