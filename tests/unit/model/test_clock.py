"""A wall clock that steps: what time goes by, and when the wall clock is followed again."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.clock import (
    MAX_STEP_MS,
    ManualClock,
    SteadyClock,
    SystemClock,
    monotonic_ms,
    synchronised_ms,
    utc_text,
)

YEAR_MS = 365 * 86_400_000
START_MS = 1_800_000_000_000


class Machine:
    """A wall clock, a monotonic one, and perhaps a time server; the true time for comparison."""

    def __init__(self):
        self.true = ManualClock(START_MS)
        self.wall = ManualClock(START_MS)
        self.boot = ManualClock(5_000)
        self.server = False
        self.steady = SteadyClock(
            self.wall,
            monotonic_ms=self.boot.now_ms,
            synchronised_ms=lambda: self.true.now_ms() if self.server else None,
        )

    def advance(self, ms):
        for clock in (self.true, self.wall, self.boot):
            clock.advance(ms)

    def suspend(self, ms):
        """By a hypervisor: no clock of the guest runs, until its wall clock is corrected."""
        self.true.advance(ms)


@pytest.mark.parametrize("step", [YEAR_MS, -YEAR_MS, 2 * MAX_STEP_MS, -2 * MAX_STEP_MS])
def test_a_step_is_refused_told_and_heals_when_the_clock_is_right_again(step):
    machine = Machine()
    machine.advance(10_000)

    machine.wall.advance(step)
    machine.advance(3_000)

    assert machine.steady.now_ms() == machine.true.now_ms()
    assert machine.steady.step_ms() == step
    machine.wall.advance(-step)
    machine.advance(3_000)
    assert machine.steady.step_ms() == 0
    assert machine.steady.now_ms() == machine.true.now_ms()


def test_a_clock_that_is_corrected_little_by_little_is_followed():
    machine = Machine()

    for _ in range(100):
        machine.advance(2_000)
        machine.wall.advance(1_000)
        assert machine.steady.now_ms() == machine.wall.now_ms()

    assert machine.steady.step_ms() == 0


@pytest.mark.parametrize("days", [1, 400])
def test_a_step_is_believed_if_a_time_server_keeps_the_clock_right(days):
    machine = Machine()
    machine.suspend(days * 86_400_000)
    machine.wall.at_ms = machine.true.at_ms
    assert machine.steady.now_ms() != machine.true.now_ms()

    machine.server = True

    assert machine.steady.now_ms() == machine.true.now_ms()
    machine.server = False
    machine.advance(1_000)
    assert machine.steady.now_ms() == machine.true.now_ms()


def test_a_time_server_does_not_vouch_for_another_time_than_its_own():
    machine = Machine()
    machine.server = True

    machine.wall.advance(YEAR_MS)

    assert machine.steady.now_ms() == machine.true.now_ms()


def test_a_step_is_believed_if_another_machine_agrees_and_only_then():
    machine = Machine()
    machine.suspend(YEAR_MS)
    machine.wall.at_ms = machine.true.at_ms

    machine.steady.confirm(None)
    machine.steady.confirm(machine.true.at_ms - 2 * MAX_STEP_MS)
    assert machine.steady.step_ms() == YEAR_MS
    machine.steady.confirm(machine.true.at_ms - MAX_STEP_MS)

    assert machine.steady.step_ms() == 0
    assert machine.steady.now_ms() == machine.true.now_ms()


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3_600_000), st.integers(-YEAR_MS, YEAR_MS)), max_size=20))
def test_whatever_the_wall_clock_does_time_stays_near_the_truth(courses):
    machine = Machine()
    followed = 0

    for passed, error in courses:
        machine.advance(passed)
        machine.wall.at_ms = machine.true.at_ms + error
        now_ms = machine.steady.now_ms()
        followed += machine.steady.step_ms() == 0

        assert abs(now_ms - machine.true.at_ms) <= MAX_STEP_MS * (followed + 1)


def test_the_clocks_of_this_machine_agree():
    steady = SteadyClock()

    assert abs(steady.now_ms() - SystemClock().now_ms()) < 5_000
    assert steady.step_ms() == 0
    begun_ms, deadline = monotonic_ms(), time.monotonic() + 5
    while monotonic_ms() == begun_ms:
        assert time.monotonic() < deadline


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_kernels_time_is_the_machines_where_it_is_told():
    told = synchronised_ms()

    assert told is None or abs(told - SystemClock().now_ms()) < 5_000


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (1_795_780_800_000, "2026-11-27T12:00:00Z"),
        (1_795_780_800_500, "2026-11-27T12:00:00.5Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (2**62, "4611686018427387904 ms"),
    ],
)
def test_a_time_is_written_with_the_decimals_it_has(at_ms: int, text: str) -> None:
    assert utc_text(at_ms) == text
