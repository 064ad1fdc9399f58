"""Which series are known, by a keyed hash of their labels as they come: 128 bytes a series."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

import numpy as np

from varve.gateway import kernel_series
from varve.gateway.kernel_series import COLUMNS

REDEFINE_S = 600
"""Seconds after which a series' definition is sent again, should Kafka have dropped the messages
that held it before ingest read them."""

_LEAST_ROWS = 1 << 14

SeriesKey = tuple[int, int]
"""The hash of a series' labels, as two signed words."""


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

    def put(self, key: SeriesKey, series_id: int, check: int, target: int, replica: int) -> None:
        """Notes a series whose definition is being sent."""
        if 2 * (self.count + 1) > len(self.slots):
            self._make_room()
        row = kernel_series.insert(self.slots, np.uint64(key[0] & _WORD), np.uint64(key[1] & _WORD))
        slot = self.slots[row]
        if slot[COLUMNS.DEFINED] == 0 and slot[COLUMNS.NEWEST] == 0:
            self.count += 1
        slot[COLUMNS.SERIES_ID] = series_id & _WORD
        slot[COLUMNS.CHECK_AND_TARGET] = (check & 0xFFFFFFFF) | target << 32
        slot[COLUMNS.DEFINED] = self._now_s()
        slot[COLUMNS.REPLICA] = replica

    def undefine(self, keys: Iterable[SeriesKey]) -> None:
        """Makes series be defined anew when they are next seen: they were not sent after all."""
        for key in keys:
            row = kernel_series.insert(
                self.slots, np.uint64(key[0] & _WORD), np.uint64(key[1] & _WORD)
            )
            self.slots[row, COLUMNS.DEFINED] = 0
            self.slots[row, COLUMNS.NEWEST] = 0

    def _make_room(self) -> None:
        """Drops what has ended; if that is not enough, makes a table twice as large. A table that
        has reached its bound is emptied: every series is defined again, and nothing is lost.
        """
        living_since = max(self._now_s() - 2 * REDEFINE_S, 1)
        rows = len(self.slots)
        living = int((self.slots[:, COLUMNS.DEFINED] >= living_since).sum())
        if living > self._most:
            self.slots, self.count = _slots(_LEAST_ROWS), 0
            return
        while 3 * living > rows:
            rows *= 2
        moved = _slots(rows)
        self.count = kernel_series.move_living(self.slots, moved, np.uint64(living_since))
        self.slots = moved


_WORD = (1 << 64) - 1


def _slots(rows: int) -> np.ndarray:
    """Free rows, each on a cache line of its own."""
    raw = np.zeros(rows * 8 + 8, np.uint64)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + rows * 8].reshape(rows, 8)
