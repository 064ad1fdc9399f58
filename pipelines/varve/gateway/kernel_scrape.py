"""What becomes of the samples of a scrape, in a kernel: which are kept, which are the first of
their series, which series are alive.
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import kernel

DROPPED = -1
"""Of a line: relabelling drops it."""
UNMAPPED = -2
"""Of a line: nobody has looked at it yet."""

# Rows of `state`, a column a series: the last scrape in which it was alive; the last one that had
# it, with times of its own or without; the time of its last sample, ms; up to which scrape that
# went well it counts as one that was there.
ALIVE_IN, SEEN_IN, AT_MS, EPOCH = range(4)

# Places of `counts`.
KEPT, ADDED, TAKEN, ALIVE = range(4)


@kernel(
    "void(const int32[::1], const int64[::1], const int32[::1], int64[:,::1], int64, int64, int64,"
    " int64, int64, boolean, int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"
)
def take_samples(
    lines: np.ndarray,
    times: np.ndarray,
    series_of: np.ndarray,
    state: np.ndarray,
    scrape: int,
    epoch: int,
    ts_ms: int,
    no_time: int,
    limit: int,
    tracks_times: bool,  # noqa: FBT001 - a kernel's arguments have no names
    taken: np.ndarray,
    taken_series: np.ndarray,
    taken_times: np.ndarray,
    alive: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Takes the samples of a scrape, one a line; the first one of a series and time counts.

    series_of: the series of each line, or DROPPED. Fills `taken` with the rows that are to be sent,
    their series and their times, and `alive` with series. Samples beyond `limit`, if it is not 0,
    do not make their series count as added.
    """
    kept = added = taken_count = alive_count = np.int64(0)
    for row in range(len(lines)):
        series = np.int64(series_of[lines[row]])
        if series < 0:
            continue
        kept += 1
        if limit == 0 or kept <= limit:
            if state[EPOCH, series] < epoch:
                added += 1
            state[EPOCH, series] = epoch + 1
        has_own = times[row] != no_time
        at_ms = times[row] if has_own else ts_ms
        if state[SEEN_IN, series] == scrape and state[AT_MS, series] == at_ms:
            continue
        state[SEEN_IN, series] = scrape
        if state[ALIVE_IN, series] != scrape and (tracks_times or not has_own):
            alive[alive_count] = series
            alive_count += 1
            state[ALIVE_IN, series] = scrape
        state[AT_MS, series] = at_ms
        taken[taken_count] = row
        taken_series[taken_count] = series
        taken_times[taken_count] = at_ms
        taken_count += 1
    counts[KEPT] = kept
    counts[ADDED] = added
    counts[TAKEN] = taken_count
    counts[ALIVE] = alive_count
