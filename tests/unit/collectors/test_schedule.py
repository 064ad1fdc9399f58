import threading

from hypothesis import given
from hypothesis import strategies as st

from varve.collectors.schedule import next_tick, ticks
from varve.model.clock import ManualClock


@given(st.integers(0, 2**42), st.integers(1, 10**6))
def test_the_next_tick_is_the_first_multiple_of_the_interval_ahead(now_ms, interval_ms):
    tick = next_tick(now_ms, interval_ms)

    assert tick % interval_ms == 0
    assert 0 < tick - now_ms <= interval_ms


class SteppingEvent(threading.Event):
    """Time passes only while somebody waits for it."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def wait(self, timeout=None):
        self.clock.advance(round(timeout * 1000))
        return self.is_set()


def test_ticks_do_not_drift_and_those_missed_are_left_out():
    clock = ManualClock(1_700)
    stop = SteppingEvent(clock)
    seen = []

    for tick in ticks(clock, 1_000, stop):
        seen.append(tick)
        clock.advance({2_000: 400, 3_000: 2_500}.get(tick, 10))  # what the scrape takes
        if tick >= 7_000:
            stop.set()

    assert seen == [2_000, 3_000, 6_000, 7_000]


def test_a_clock_that_is_set_back_does_not_silence_the_ticks():
    clock = ManualClock(3_600_500)
    behind = ManualClock(500)
    waits = []

    class SetBack(SteppingEvent):
        def wait(self, timeout=None):
            waits.append(timeout)
            self.clock.advance(round(timeout * 1000))
            return self.is_set()

    class Corrected:
        def now_ms(self):
            return (behind if waits else clock).now_ms()

    stop = SetBack(behind)
    seen = next(ticks(Corrected(), 1_000, stop))

    assert seen == 2_000
    assert len(waits) == 2
