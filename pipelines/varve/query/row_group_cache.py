"""Row groups of sample files, decoded on demand and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from varve.promql.kernels.types import I64
from varve.query.decoded_files import DecodedFiles, Footer
from varve.query.sample_columns import COLUMNS, SampleColumns, from_arrow, merge

_TABLE = "samples"


class RowGroupCache:
    """Samples in `files`. Safe to use from any thread."""

    def __init__(self, files: DecodedFiles) -> None:
        self._files = files

    @property
    def nbytes(self) -> int:
        """Bytes of all that `files` keeps."""
        return self._files.nbytes

    @property
    def decoded(self) -> int:
        """Row groups and whole files that were read from storage so far."""
        return self._files.decoded

    def read(
        self, row_groups: Iterable[tuple[str, int]], check: Callable[[], None]
    ) -> Iterator[SampleColumns]:
        """Reads row groups (path, number) in their order, some of them ahead.

        `check` is called before each, and may raise. Raises OSError if a file cannot be read or is
        damaged, FileNotFoundError if it is gone.
        """
        return self._files.ahead(row_groups, self._row_group, check)

    def read_files(self, paths: list[str], series_ids: I64 | None = None) -> list[SampleColumns]:
        """Reads all of each file, or all of some series (ascending ids), and keeps nothing of it.
        OSError as `read`.
        """
        if series_ids is None:
            return self._files.for_head(paths, self._file)
        return self._files.for_head(paths, partial(self._rows_of, series_ids=series_ids))

    def footers(self, paths: Sequence[str], check: Callable[[], None]) -> Iterator[Footer]:
        """The footers in the order of the paths; `check` and OSError as `read`."""
        return self._files.footers(_TABLE, paths, check)

    def _row_group(self, key: tuple[str, int]) -> SampleColumns:
        path, group = key
        return self._files.kept(
            (_TABLE, path, group),
            lambda: from_arrow(self._files.read_columns(_TABLE, path, group, COLUMNS)),
        )

    def _rows_of(self, path: str, *, series_ids: I64) -> SampleColumns:
        rows = self._files.read_file(_TABLE, path, COLUMNS, series_ids)
        # Rows of one series lie together: a look at the ids is a fraction of what decoding costs.
        return from_arrow(rows.filter(pc.is_in(rows.column("series_id"), pa.array(series_ids))))

    def _file(self, path: str) -> SampleColumns:
        """What queries have decoded of the file is not decoded again, and is theirs no longer."""
        footer = self._files.get((_TABLE, path, None))
        groups = range(0 if footer is None else footer.metadata.num_row_groups)
        if not any(self._files.get((_TABLE, path, group)) for group in groups):
            return from_arrow(self._files.read_file(_TABLE, path, COLUMNS))
        rows = merge([self._row_group((path, group)) for group in groups])
        self._files.discard((_TABLE, path, group) for group in groups)
        return rows
