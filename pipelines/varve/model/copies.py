"""One (series_id, ts) is one sample, wherever copies of it meet.

The greatest wins, stale marker < NaN < numbers: the same sample wins in any order of arrival.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varve.model.staleness import is_stale

_STALE_RANK, _NAN_RANK = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1


def order(
    series_ids: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
) -> npt.NDArray[np.intp]:
    """Indices of the samples that count, sorted by (series_id, ts); copies are left out."""
    by_time = np.lexsort((ts, series_ids))
    ids, times = series_ids[by_time], ts[by_time]
    same = (ids[1:] == ids[:-1]) & (times[1:] == times[:-1])
    if not same.any():
        return by_time
    ranked = np.lexsort((rank(values), ts, series_ids))
    ids, times = series_ids[ranked], ts[ranked]
    last = np.ones(len(ranked), dtype=bool)
    last[:-1] = (ids[1:] != ids[:-1]) | (times[1:] != times[:-1])
    return ranked[last]


def rank(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Integers in the order of the rule: stale marker, NaN, then numbers ascending."""
    bits = values.view(np.int64)
    ordered = np.where(bits < 0, ~bits ^ np.iinfo(np.int64).min, bits)
    ordered[np.isnan(values)] = _NAN_RANK
    ordered[is_stale(values)] = _STALE_RANK
    return ordered
