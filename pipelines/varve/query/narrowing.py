"""Which of the registered series a query has to look at, by the time it asks for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from varve.model.window import HOUR_MS, floor_to, window_end
from varve.query.seen_series import MOST_ROWS, seen_within
from varve.query.series_index import Among
from varve.query.tier_choice import Estimate
from varve.query.times import MAX_TIME_MS, MIN_TIME_MS
from varve.query.view import FileGone, View

# From so many registered series on, samples are looked for of those alone that were seen in the
# range, if that is under half of them; rows of rollups say which, of which so many are read for it.
MANY_REGISTERED = 20_000
_READ_FOR_SAMPLES = 2_000_000
# Ranges of a view that are remembered, by a byte a registered series.
_REMEMBERED = 8

log = logging.getLogger(__name__)

_lock = threading.Lock()


class Narrowing:
    """The series of a view by time, for one query; its threads may share it. Which series live is
    remembered for all queries of the view.
    """

    def __init__(self, view: View, check: Callable[[], None]) -> None:
        """check: raises when the query has to end."""
        self._view = view
        self._check = check

    def seen(self, first_ms: int, last_ms: int) -> Among | None:
        """The series seen from first_ms to last_ms, none if that is before it; None for all that
        are registered.
        """
        if first_ms <= MIN_TIME_MS and last_ms >= MAX_TIME_MS:
            return None
        if last_ms < first_ms:
            return Among(np.zeros(self._view.index.size, dtype=np.bool_), b"")
        return self._seen(first_ms - 1, last_ms, MOST_ROWS, exact=True)

    def living(self, start_ms: int, end_ms: int) -> Among | None:
        """The series that may have samples in (start_ms, end_ms], to the hour; None for all, where
        that is quicker: with few of them, many rows to read, or most of them alive.
        """
        if self._view.index.size < MANY_REGISTERED:
            return None
        key = floor_to(start_ms, HOUR_MS), window_end(end_ms, HOUR_MS)
        remembered = self._view.living
        with _lock:
            if key in remembered:
                return remembered[key]
        found = self._seen(*key, _READ_FOR_SAMPLES, exact=False)
        if found is not None and 2 * np.count_nonzero(found.rows) > len(found.rows):
            found = None
        with _lock:
            while len(remembered) >= _REMEMBERED:
                del remembered[next(iter(remembered))]
            return remembered.setdefault(key, found)

    def estimates(self, start_ms: int, end_ms: int) -> Callable[[int], Estimate]:
        """What is estimated of so many of the series that have samples in a range."""
        living = self.living(start_ms, end_ms)
        among = self._view.index.size if living is None else np.count_nonzero(living.rows)
        rows = self._view.all_files.rows_within(start_ms, end_ms)

        def estimate(size: int) -> Estimate:
            share = size / max(1, int(among))
            return Estimate(size, int(rows * share), share)

        return estimate

    def _seen(self, start_ms: int, end_ms: int, most_rows: int, *, exact: bool) -> Among | None:
        try:
            return seen_within(
                self._view, start_ms, end_ms, self._check, most_rows=most_rows, exact=exact
            )
        except OSError as err:
            if self._view.is_earlier and isinstance(err, FileNotFoundError):
                raise FileGone(f"cannot tell which series there were: {err}") from err
            # A file may have been replaced meanwhile. More series than need be are no wrong answer.
            log.warning("series are not narrowed by time: %s", err)
            return None
