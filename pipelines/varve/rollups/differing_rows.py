"""Where rows of two tables differ in a bit, column by column."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from varve.rollups import algebra
from varve.rollups.algebra import Ints, Rows
from varve.storage.zone_map import Mask


def differing(left: Rows, right: Rows, i: Ints, j: Ints) -> Mapping[str, Mask]:
    """Tells by column where rows i of left and j of right differ in a bit."""
    differing = {}
    for name in algebra.COLUMNS:
        a, b = getattr(left, name)[i], getattr(right, name)[j]
        if a.dtype == np.float64:
            a, b = a.view(np.int64), b.view(np.int64)
        differing[name] = a != b
    differing["sketch"] = _sketches_differ(left, right, i, j)
    return differing


def _sketches_differ(left: Rows, right: Rows, i: Ints, j: Ints) -> Mask:
    lengths = np.diff(left.sketch_starts)[i]
    differ = lengths != np.diff(right.sketch_starts)[j]
    same = np.flatnonzero(~differ)
    lengths = lengths[same]
    # The entries of all these sketches, one after the other.
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    a = np.repeat(left.sketch_starts[i[same]], lengths) + within
    b = np.repeat(right.sketch_starts[j[same]], lengths) + within
    entries_differ = left.sketch_keys[a] != right.sketch_keys[b]
    entries_differ |= left.sketch_counts[a] != right.sketch_counts[b]
    differ[np.repeat(same, lengths)[entries_differ]] = True
    return differ
