"""Row groups of rollup files, decoded on demand column by column and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from varve.promql.kernels.types import I64
from varve.query.decoded_files import DecodedFiles
from varve.query.rollup_columns import (
    REVISION,
    SERIES_ID,
    WINDOW_END,
    Column,
    RollupPart,
    SketchColumn,
    column_from_arrow,
)
from varve.storage.log import LiveFile


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A row group of a file of a tier's table."""

    files: DecodedFiles
    table: str
    file: LiveFile
    group: int

    def load(self, name: str) -> Column | SketchColumn:
        if name == REVISION and (only := _only_revision(self.file)) is not None:
            rows = self.files.footer(self.table, self.file.path).metadata.row_group(self.group)
            return np.full(rows.num_rows, only, dtype=np.int64)
        key = (self.table, self.file.path, (self.group, name))
        held: Column | SketchColumn | None = self.files.get(key)
        if held is None:
            rows = self.files.read_columns(self.table, self.file.path, self.group, [name])
            held = column_from_arrow(name, rows.column(name))
            self.files.put(key, held, held.nbytes)
        return held


@dataclass(frozen=True, slots=True)
class RollupGroups:
    """Rollup rows in `files`. Safe to use from any thread."""

    files: DecodedFiles

    def parts(
        self,
        table: str,
        chosen: Sequence[LiveFile],
        series_ids: I64,
        span: tuple[int, int],
        check: Callable[[], None],
    ) -> Iterator[tuple[StoredPart, I64, I64]]:
        """The row groups of some files of a tier's table that can hold rows of the series
        (ascending ids) which end in `span`, with their series_id and window_end.

        Some are read ahead. `check` is called before each, and may raise. Raises OSError if a file
        cannot be read or is damaged, FileNotFoundError if it is gone.
        """
        paths = [file.path for file in chosen]
        footers = self.files.footers(table, paths, check)
        groups = (
            StoredPart(self.files, table, file, group)
            for file, footer in zip(chosen, footers, strict=True)
            for group in footer.overlapping(series_ids, *span)
        )
        return self.files.ahead(groups, _with_keys, check)

    def columns(
        self, parts: Sequence[RollupPart], name: str, check: Callable[[], None]
    ) -> Iterator[Column | SketchColumn]:
        """A column of each part, some of them read ahead; errors as `parts`."""
        return self.files.ahead(parts, lambda part: part.load(name), check)


def _with_keys(part: StoredPart) -> tuple[StoredPart, I64, I64]:
    ids, ends = part.load(SERIES_ID), part.load(WINDOW_END)
    if isinstance(ids, SketchColumn) or isinstance(ends, SketchColumn):
        raise TypeError("keys are numbers")
    return part, ids, ends


def _only_revision(file: LiveFile) -> int | None:
    """The revision of all rows of a file, None if they have several."""
    least = file.minimum.get(REVISION)
    return least if least is not None and least == file.maximum.get(REVISION) else None
