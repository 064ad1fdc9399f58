"""The stale marker in float64 columns: one reserved NaN bit pattern.

Tables hold NULL where a series ended. In arrays the marker is the NaN that Prometheus uses, so
that a column stays plain float64 and a kernel tells the marker by its bits. It never leaves the
storage side: results have a presence mask instead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.compiled import kernel

STALE_BITS: Final = 0x7FF0000000000002
"""Bits of the stale marker, as Prometheus' value.StaleNaN."""

STALE_NAN: Final = float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])
"""The stale marker. A copy through Python keeps its bits; arithmetic does not."""

NORMAL_BITS: Final = 0x7FF8000000000001
"""Bits of the one NaN that is stored."""

NORMAL_NAN: Final = float(np.array([NORMAL_BITS], dtype=np.uint64).view(np.float64)[0])
"""An ordinary NaN."""


def is_stale(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of `values` are the stale marker, and no other NaN; same shape."""
    return values.view(np.uint64) == np.uint64(STALE_BITS)


def canonicalise(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Changes values in place so that equal samples have equal bits: one NaN beside the stale
    marker, and 0.0 for -0.0. Returns them.
    """
    _canonicalise(values.view(np.uint64))
    return values


def from_column(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A table's value column as an array of its own, canonical; NULL becomes the stale marker."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    filled = column if missing is None else column.fill_null(0.0)
    values = canonicalise(np.array(filled.to_numpy(zero_copy_only=False), np.float64))
    if missing is not None:
        values[missing] = STALE_NAN
    return values


def to_column(values: npt.NDArray[np.float64]) -> pa.Array:
    """The reverse: the stale marker becomes NULL."""
    stale = is_stale(values)
    return pa.array(values, mask=stale) if stale.any() else pa.array(values)


@kernel("void(uint64[::1])")
def _canonicalise(bits: npt.NDArray[np.uint64]) -> None:
    sign = np.uint64(1 << 63)
    for i in range(len(bits)):
        magnitude = bits[i] & ~sign
        if magnitude == 0:
            bits[i] = 0
        elif magnitude > np.uint64(0x7FF0000000000000) and bits[i] != np.uint64(STALE_BITS):
            bits[i] = np.uint64(NORMAL_BITS)
