"""Ticks at whole multiples of an interval, on the wall clock: no drift, whatever a scrape takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from varve.model.clock import Clock


def next_tick(now_ms: int, interval_ms: int) -> int:
    """The first multiple of interval_ms after now_ms."""
    return now_ms // interval_ms * interval_ms + interval_ms


def ticks(clock: Clock, interval_ms: int, stop: threading.Event) -> Iterator[int]:
    """Blocks until each tick and yields it, ms since the epoch; ends once `stop` is set.

    Ticks that pass while the consumer is busy, or the machine asleep, are left out: samples late by
    a whole interval would say something untrue of when they were taken.
    """
    while True:
        tick = next_tick(clock.now_ms(), interval_ms)
        while (left_ms := tick - clock.now_ms()) > 0:
            # In slices: a clock that was set forward must not be noticed a day late.
            if stop.wait(min(left_ms, interval_ms) / 1000):
                return
            # Nor must one that was set back silence us until it is there again.
            tick = min(tick, next_tick(clock.now_ms(), interval_ms))
        if stop.is_set():
            return
        yield tick
