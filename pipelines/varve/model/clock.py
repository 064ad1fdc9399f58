"""Time as an argument: logic takes a Clock, tests step one by hand."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol

MAX_STEP_MS = 60_000
"""How far a SteadyClock lets the wall clock move away from the monotonic one between two looks.
A minute: time servers correct less than that, and what is closed a minute early is repaired."""


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def utc_text(at_ms: int) -> str:
    """RFC 3339 in UTC, with as many decimals as the time has; beyond the year 9999 the number."""
    seconds, ms = divmod(at_ms, 1000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    return f"{text}{fraction}Z"


@dataclass(slots=True)
class ManualClock:
    """Stands still until told otherwise."""

    at_ms: int = 0

    def now_ms(self) -> int:
        return self.at_ms

    def advance(self, ms: int) -> None:
        self.at_ms += ms


def monotonic_ms() -> int:
    """Milliseconds by a clock that nobody sets and that goes on while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def synchronised_ms() -> int | None:
    """The kernel's time if a time server keeps it right, in ms since the Unix epoch; None if it
    says that none does, or does not say.
    """
    if sys.platform != "linux":
        return None
    state = _Timex()
    if _adjtimex()(ctypes.byref(state)) in (-1, _TIME_ERROR) or state.status & _STA_UNSYNC:
        return None
    fraction = state.time_fraction // (1_000_000 if state.status & _STA_NANO else 1_000)
    return int(state.time_s * 1000 + fraction)


class SteadyClock:
    """The wall clock, unless it was stepped: then the time goes on as the monotonic clock does.

    A step is a difference between the two clocks of more than MAX_STEP_MS since the last look. The
    wall clock is followed again once it is back within that bound, or once the step is confirmed:
    by the kernel, if a time server keeps it right, or by `confirm`. Thread-safe.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        monotonic_ms: Callable[[], int] = monotonic_ms,
        synchronised_ms: Callable[[], int | None] = synchronised_ms,
    ) -> None:
        self._clock = clock or SystemClock()
        self._monotonic_ms = monotonic_ms
        self._synchronised_ms = synchronised_ms
        self._lock = threading.Lock()
        # When the wall clock was last believed, by both clocks.
        self._wall_ms, self._monotonic_at_ms = self._clock.now_ms(), self._monotonic_ms()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return self._look()[0]

    def step_ms(self) -> int:
        """How far the wall clock is ahead of `now_ms`, negative if behind; 0 unless it was
        stepped.
        """
        now_ms, wall_ms = self._look()
        return wall_ms - now_ms

    def confirm(self, witness_ms: int | None, *, within_ms: int = MAX_STEP_MS) -> bool:
        """Believes the wall clock if another clock, which says witness_ms, agrees; True if so."""
        if witness_ms is None:
            return False
        with self._lock:
            wall_ms = self._clock.now_ms()
            if abs(wall_ms - witness_ms) > within_ms:
                return False
            self._wall_ms, self._monotonic_at_ms = wall_ms, self._monotonic_ms()
            return True

    def _look(self) -> tuple[int, int]:
        """The time to go by, and that of the wall clock."""
        with self._lock:
            wall_ms, monotonic_ms = self._clock.now_ms(), self._monotonic_ms()
            expected_ms = self._wall_ms + monotonic_ms - self._monotonic_at_ms
            if abs(wall_ms - expected_ms) > MAX_STEP_MS:
                kernel_ms = self._synchronised_ms()
                if kernel_ms is None or abs(wall_ms - kernel_ms) > MAX_STEP_MS:
                    return expected_ms, wall_ms
            self._wall_ms, self._monotonic_at_ms = wall_ms, monotonic_ms
            return wall_ms, wall_ms


class _Timex(ctypes.Structure):
    """struct timex of Linux, see adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_fraction", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    )


_TIME_ERROR = 5
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000


@cache
def _adjtimex() -> Any:
    return ctypes.CDLL(None, use_errno=True).adjtimex
