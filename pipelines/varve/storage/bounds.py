"""Which rows a read is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows of these series with start_ms < time <= end_ms, Unix ms UTC. None is no bound.

    time is the table's time column, see TableSchema.time_column.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    series_ids: npt.NDArray[np.int64] | None = None
    """Sorted ascending, unique."""
    series: tuple[int, int] | None = None
    """Least and greatest series_id, both inclusive."""

    @property
    def has_time(self) -> bool:
        return self.start_ms is not None or self.end_ms is not None

    @property
    def has_series(self) -> bool:
        return self.series_ids is not None or self.series is not None
