"""Row groups of sample files, decoded on demand and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from varve.query.decoded_files import DecodedFiles, Footer
from varve.query.sample_columns import COLUMNS, SampleColumns, from_arrow

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

    def read_files(self, paths: list[str]) -> list[SampleColumns]:
        """Reads all of each file and keeps nothing of it. OSError as `read`."""
        return self._files.for_head(paths, self._file)

    def footers(self, paths: Sequence[str], check: Callable[[], None]) -> Iterator[Footer]:
        """The footers in the order of the paths; `check` and OSError as `read`."""
        return self._files.footers(_TABLE, paths, check)

    def _row_group(self, key: tuple[str, int]) -> SampleColumns:
        path, group = key
        held: SampleColumns | None = self._files.get((_TABLE, path, group))
        if held is None:
            held = from_arrow(self._files.read_columns(_TABLE, path, group, COLUMNS))
            self._files.put((_TABLE, path, group), held, held.nbytes)
        return held

    def _file(self, path: str) -> SampleColumns:
        return from_arrow(self._files.read_file(_TABLE, path, COLUMNS))
