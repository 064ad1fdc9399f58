"""What a task of the detector is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varve.anomaly.minute_values import Ints, Mask
from varve.anomaly.rules import Rule
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.window import Window
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class Subjects:
    """The series that are judged, sorted by id; arrays have one entry for each."""

    ids: Ints
    is_rate: Mask
    rule: Ints
    """Number of its rule."""

    def within(self, low: int, high: int) -> Subjects:
        """Those with an id from low to high, both inclusive."""
        part = slice(np.searchsorted(self.ids, low), np.searchsorted(self.ids, high, "right"))
        return Subjects(self.ids[part], self.is_rate[part], self.rule[part])


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """Minutes to judge: all that end in a window, or those of `keys` only."""

    store: Store
    source_version: int
    baselines_version: int
    window: Window
    subjects: Subjects
    rules: tuple[Rule, ...]
    keys: Ints | None = None
    """series_id and window_end, shape (n, 2), sorted: windows that were repaired."""
    calendar: Calendar = NO_HOLIDAYS
    """That baselines are computed by."""
