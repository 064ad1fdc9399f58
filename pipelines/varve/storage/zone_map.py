"""Zone maps: the least and greatest time and series_id of some pieces of a table, files or row
groups, by which a read skips what cannot hold one of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from varve.storage.bounds import Bounds

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# What is not known of a piece may be anything.
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class ZoneMap:
    """Bounds of pieces, an element a piece; both ends inclusive. Where a piece has no statistics
    they are the widest there are.
    """

    first_ms: Ints
    last_ms: Ints
    first_series: Ints
    last_series: Ints

    @classmethod
    def of_row_groups(cls, metadata: pq.FileMetaData, time_column: str | None) -> ZoneMap:
        """The row groups of a Parquet file."""
        # Columns of a footer are leaves; those of a list or map have other names.
        names = [metadata.schema.column(i).name for i in range(metadata.num_columns)]
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        return cls(*_zones(groups, names, time_column), *_zones(groups, names, "series_id"))

    def overlapping(self, bounds: Bounds) -> Mask:
        """Pieces that can hold a row within bounds."""
        found: Mask = np.ones(len(self.first_ms), np.bool_)
        if bounds.start_ms is not None:
            found &= self.last_ms > bounds.start_ms
        if bounds.end_ms is not None:
            found &= self.first_ms <= bounds.end_ms
        if bounds.series is not None:
            least, greatest = bounds.series
            found &= (self.first_series <= greatest) & (self.last_series >= least)
        if (ids := bounds.series_ids) is not None:
            # Ids below the end of the piece's range that are not below its start.
            found &= np.searchsorted(ids, self.first_series, "left") < np.searchsorted(
                ids, self.last_series, "right"
            )
        return found


def _zones(
    groups: Sequence[pq.RowGroupMetaData], names: Sequence[str], column: str | None
) -> tuple[Ints, Ints]:
    first = np.full(len(groups), LOWEST, np.int64)
    last = np.full(len(groups), HIGHEST, np.int64)
    if column in names:
        at = names.index(column)
        for i, group in enumerate(groups):
            statistics = group.column(at).statistics
            if statistics is not None and statistics.has_min_max:
                first[i], last[i] = statistics.min, statistics.max
    return first, last
