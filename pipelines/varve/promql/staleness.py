"""The stale marker in float64 columns: one reserved NaN bit pattern.

Tables hold NULL where a series ended. In arrays the marker is the NaN that Prometheus uses, so
that a column stays plain float64 and a kernel tells the marker by its bits. It never leaves the
storage side: results have a presence mask instead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

STALE_BITS: Final = 0x7FF0000000000002
"""Bits of the stale marker, as Prometheus' value.StaleNaN."""

STALE_NAN: Final = float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])
"""The stale marker. A copy through Python keeps its bits; arithmetic does not."""

NORMAL_NAN: Final = float(np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0])
"""An ordinary NaN."""


def is_stale(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of `values` are the stale marker, and no other NaN; same shape."""
    return values.view(np.uint64) == np.uint64(STALE_BITS)
