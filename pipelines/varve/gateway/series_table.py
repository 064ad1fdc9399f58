"""Which series are known, by a keyed hash of their labels as they come: 128 bytes a series."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from varve.gateway import kernel_series
from varve.gateway.kernel_series import COLUMNS

REDEFINE_S = 600
"""Seconds after which a series' definition is sent again, should Kafka have dropped the messages
that held it before ingest read them."""

_LEAST_ROWS = 1 << 14

SeriesKey = tuple[int, int]
"""The hash of a series' labels, as two signed words."""


class KnownSeries(NamedTuple):
    """What the table holds of a series: the words of its key, and what its samples get."""

    hash0: int
    hash1: int
    series_id: int
    check: int
    target: int
    replica: int


class SeriesTable:
    """The series whose definitions have been sent. Not safe to share between threads.

    Its hashes are keyed by random seeds, so that no sender can make two series meet. A series that
    has not been seen for twice REDEFINE_S is forgotten when the table would have to grow.
    """

    def __init__(self, now_s: Callable[[], int], most: int) -> None:
        """now_s: seconds by a monotonic clock, from 1 on. most: series that are kept at most."""
        self._now_s = now_s
        self._most = most
        self.seeds = np.frombuffer(secrets.token_bytes(16), np.uint64)
        self.slots = _slots(_LEAST_ROWS)
        self.count = 0

    def stale_before_s(self) -> int:
        """Series defined before this second are defined anew when they are next seen."""
        return max(self._now_s() - REDEFINE_S, 1)

    def put(self, known: Sequence[KnownSeries]) -> None:
        """Notes series whose definitions are being sent."""
        if not known:
            return
        if 2 * (self.count + len(known)) > len(self.slots):
            self._make_room(len(known))
        self.count += kernel_series.put(
            self.slots, np.array(known, np.int64), np.uint64(self._now_s())
        )

    def undefine(self, keys: Sequence[SeriesKey]) -> None:
        """Makes series be defined anew when they are next seen: they were not sent after all."""
        if keys:
            kernel_series.undefine(self.slots, np.array(keys, np.int64))

    def undefine_since(self, second: int) -> None:
        """The same for all series that were defined from that second on, by the table's clock."""
        kernel_series.undefine_since(self.slots, np.uint64(max(second, 1)))

    def clear(self) -> None:
        """Forgets all series."""
        self.slots = _slots(_LEAST_ROWS)
        self.count = 0

    def _make_room(self, more: int) -> None:
        """Makes room for so many: drops what has ended; if that is not enough, makes a table twice
        as large. A table that has reached its bound is emptied: every series is defined again, and
        nothing is lost.
        """
        living_since = max(self._now_s() - 2 * REDEFINE_S, 1)
        rows = len(self.slots)
        living = int((self.slots[:, COLUMNS.DEFINED] >= living_since).sum())
        if living > self._most:
            living = living_since = 0
            self.slots = self.slots[:0]
            rows = _LEAST_ROWS
        while 3 * (living + more) > rows:
            rows *= 2
        moved = _slots(rows)
        self.count = kernel_series.move_living(self.slots, moved, np.uint64(living_since))
        self.slots = moved


def _slots(rows: int) -> np.ndarray:
    """Free rows, each on a cache line of its own."""
    raw = np.zeros(rows * 8 + 8, np.uint64)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + rows * 8].reshape(rows, 8)
