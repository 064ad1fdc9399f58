"""The files of a table, sifted by their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from varve.promql.kernels.types import I64
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile


class FileTable:
    """Files of one version of a table, by the time and series that their statistics say."""

    def __init__(self, files: Sequence[LiveFile], time: str = "ts") -> None:
        """time: the table's time column."""
        self._time = time
        self._files = files if isinstance(files, FileSet) else FileSet(files, time)

    def __reduce__(self) -> tuple[type[FileTable], tuple[list[LiveFile], str]]:
        """What is pickled: the files, without what other versions share with this one."""
        return FileTable, ([*self._files], self._time)

    def __len__(self) -> int:
        return len(self._files)

    def span_ms(self) -> tuple[int, int]:
        """First and last time of a row. ValueError without files."""
        zones = self._files.zones
        return int(zones.first_ms.min()), int(zones.last_ms.max())

    def select(self, series_ids: I64, start_ms: int, end_ms: int) -> list[LiveFile]:
        """Files that can hold rows of the ids (ascending) in (start_ms, end_ms]."""
        return self._files.select(Bounds(start_ms, end_ms, series_ids))

    def within(self, start_ms: int, end_ms: int) -> list[LiveFile]:
        """Files that can hold rows of any series in (start_ms, end_ms]."""
        return self._files.select(Bounds(start_ms, end_ms))

    def overlapping(self, series_ids: I64, start_ms: int, end_ms: int) -> tuple[list[str], int]:
        """Paths of the files that `select` gives, and their rows."""
        chosen = self.select(series_ids, start_ms, end_ms)
        return [file.path for file in chosen], sum(file.rows for file in chosen)

    def rows_within(self, start_ms: int, end_ms: int) -> float:
        """About how many rows of all series are in (start_ms, end_ms], as if each file's lay evenly
        in its time.
        """
        if not len(self._files):
            return 0.0
        first_ms, last_ms, rows = self._spread
        length = (last_ms - first_ms).astype(np.float64) + 1
        inside = np.minimum(last_ms, end_ms) - np.maximum(first_ms - 1, start_ms)
        return float((rows * np.clip(inside / length, 0.0, 1.0)).sum())

    @cached_property
    def _spread(self) -> tuple[I64, I64, I64]:
        """First and last time of each file, and its rows."""
        zones = self._files.zones
        rows = np.fromiter((file.rows for file in self._files), np.int64, len(self._files))
        return zones.first_ms, zones.last_ms, rows
