"""Row groups of rollup files, decoded on demand column by column and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from varve.promql.kernels.types import I64
from varve.query.decoded_files import DecodedFiles
from varve.query.rollup_columns import (
    KEYS,
    SKETCH,
    RollupPart,
    SketchColumn,
    column_from_arrow,
)
from varve.storage.log import LiveFile

_REVISION = "revision"


@dataclass(frozen=True, slots=True)
class RollupGroups:
    """Rollup rows in `files`. Safe to use from any thread."""

    files: DecodedFiles

    def read(
        self,
        table: str,
        chosen: Sequence[LiveFile],
        series_ids: I64,
        span: tuple[int, int],
        columns: Sequence[str],
        check: Callable[[], None],
    ) -> Iterator[RollupPart]:
        """The row groups of some files of a tier's table that can hold rows of the series
        (ascending ids) which end in `span`, with those columns, some of them read ahead.

        `check` is called before each, and may raise. Raises OSError if a file cannot be read or is
        damaged, FileNotFoundError if it is gone.
        """
        paths = [file.path for file in chosen]
        groups = (
            (file, group)
            for file, footer in zip(chosen, self.files.footers(table, paths, check), strict=True)
            for group in footer.overlapping(series_ids, *span)
        )
        return self.files.ahead(groups, partial(self._part, table, tuple(columns)), check)

    def _part(self, table: str, columns: Sequence[str], key: tuple[LiveFile, int]) -> RollupPart:
        file, group = key
        revision = _only_revision(file)
        names = [*KEYS, *columns, *([_REVISION] if revision is None else [])]
        held = {name: self.files.get((table, file.path, (group, name))) for name in names}
        missing = [name for name in names if held[name] is None]
        if missing:
            rows = self.files.read_columns(table, file.path, group, missing)
            for name in missing:
                column = column_from_arrow(name, rows.column(name))
                held[name] = column
                self.files.put((table, file.path, (group, name)), column, column.nbytes)
        sketches = held.pop(SKETCH, None)
        return RollupPart(
            held.pop("series_id"),
            held.pop("window_end"),
            held.pop(_REVISION) if revision is None else revision,
            held,
            sketches if isinstance(sketches, SketchColumn) else None,
        )


def _only_revision(file: LiveFile) -> int | None:
    """The revision of all rows of a file, None if they have several."""
    least = file.minimum.get(_REVISION)
    return least if least is not None and least == file.maximum.get(_REVISION) else None
