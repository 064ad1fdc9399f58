"""The live files of a version of a table, sifted by their zone map thousands at once.

A table gains and loses a few files with each commit, and has many: a set that follows from another
shares its columns, so that following a table costs in proportion to its commits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np

from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.zone_map import HIGHEST, LOWEST, Ints, Mask, ZoneMap

# Elements that new columns have room for at least.
_ROOM = 64
_NEVER = np.iinfo(np.int64).max


class FileSet(Sequence[LiveFile]):
    """Files in the order they came. Immutable, and shared between threads.

    Sets that follow from one another by `changed` share one row for each file that ever came. A
    set has the first `_end` rows, less those that were removed by a change up to its own. Rows of
    removed files go away when they are the greater part.
    """

    __slots__ = ("_change", "_count", "_end", "_members", "_rows")

    def __init__(self, files: Iterable[LiveFile] = (), time_column: str | None = None) -> None:
        """time_column: of the table; None for one without, whose files all overlap any time."""
        self._rows = _Rows(list(files), time_column)
        self._change = 0
        self._end = self._count = len(self._rows.files)
        self._members: tuple[LiveFile, ...] | None = None

    def changed(self, removed: Iterable[str], added: Iterable[LiveFile]) -> FileSet:
        """The set without the files at the paths `removed`, and with `added` at its end. Paths of
        neither kind need to be new or known: what is added again moves to the end.

        Costs in proportion to the change if this set is the newest of those that share its rows.
        """
        rows = self._rows
        with rows.lock:
            if self._change == rows.newest:
                gone, came = rows.change(removed, added)
                after = FileSet.__new__(FileSet)
                after._rows, after._members = rows, None  # noqa: SLF001 - another of this class
                after._change, after._end = rows.newest, len(rows.files)  # noqa: SLF001
                after._count = self._count - gone + came  # noqa: SLF001
                if after._end <= 2 * after._count + _ROOM:  # noqa: SLF001
                    return after
                return FileSet(after, rows.time_column)
        return FileSet(self, rows.time_column).changed(removed, added)

    def select(self, bounds: Bounds) -> list[LiveFile]:
        """Files that can hold a row within bounds, by their statistics."""
        if not self._count:
            return []
        found = self._zones().overlapping(bounds)
        if (live := self._live()) is not None:
            found &= live
        files = self._rows.files
        return [files[i] for i in np.flatnonzero(found).tolist()]

    @property
    def zones(self) -> ZoneMap:
        """In the order of the files."""
        zones, live = self._zones(), self._live()
        if live is None:
            return zones
        return ZoneMap(
            zones.first_ms[live],
            zones.last_ms[live],
            zones.first_series[live],
            zones.last_series[live],
        )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[LiveFile]:
        if self._members is not None:
            return iter(self._members)
        return self._walk()

    @overload
    def __getitem__(self, index: int) -> LiveFile: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LiveFile, ...]: ...
    def __getitem__(self, index: int | slice) -> LiveFile | tuple[LiveFile, ...]:
        if self._members is None:
            self._members = tuple(self._walk())
        return self._members[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FileSet of {len(self)} files"

    def __reduce__(self) -> tuple[type[FileSet], tuple[tuple[LiveFile, ...], str | None]]:
        return FileSet, (tuple(self), self._rows.time_column)

    def _walk(self) -> Iterator[LiveFile]:
        files, live = self._rows.files, self._live()
        if live is None:
            return islice(files, self._end)
        return (files[i] for i in np.flatnonzero(live).tolist())

    def _zones(self) -> ZoneMap:
        """Bounds of all rows up to the end, removed ones included."""
        first_ms, last_ms, first_series, last_series = self._rows.filled(self._end)
        end = self._end
        return ZoneMap(first_ms[:end], last_ms[:end], first_series[:end], last_series[:end])

    def _live(self) -> Mask | None:
        """Which rows up to the end are this set's; None if all are."""
        if self._count == self._end:
            return None
        return self._rows.removed_by[: self._end] > self._change


class _Rows:
    """A row for each file that ever came to a line of sets.

    Only the newest set of the line adds rows or marks them as removed, with a number that no older
    set looks at; so older sets need no lock. Columns are computed when they are first asked for.
    """

    def __init__(self, files: list[LiveFile], time_column: str | None) -> None:
        self.lock = threading.RLock()
        self.time_column = time_column
        self.files = files
        self.newest = 0
        """Number of the last change."""
        self.removed_by = np.full(len(files), _NEVER, np.int64)
        """Number of the change that removed the row's file."""
        self._row_of: dict[str, int] | None = None
        """Row of each live file of the newest set, by path."""
        self._columns: tuple[Ints, ...] = tuple(np.empty(0, np.int64) for _ in range(4))
        self._filled = 0

    def change(self, removed: Iterable[str], added: Iterable[LiveFile]) -> tuple[int, int]:
        """Makes the next change; returns how many files it removed and added. Under the lock."""
        if self._row_of is None:
            self._row_of = {file.path: row for row, file in enumerate(self.files)}
        number, gone, came = self.newest + 1, 0, 0
        for path in removed:
            gone += self._remove(path, number)
        for file in added:
            gone += self._remove(file.path, number)
            if len(self.files) == len(self.removed_by):
                room = max(2 * len(self.files), _ROOM)
                self.removed_by = _grown(self.removed_by, room, _NEVER)
            self._row_of[file.path] = len(self.files)
            self.files.append(file)
            came += 1
        self.newest = number
        return gone, came

    def _remove(self, path: str, number: int) -> int:
        row = (self._row_of or {}).pop(path, None)
        if row is None:
            return 0
        self.removed_by[row] = number
        return 1

    def filled(self, end: int) -> tuple[Ints, ...]:
        """The columns of a zone map, with the rows up to `end` at least."""
        if self._filled < end:
            with self.lock:
                self._fill()
        return self._columns

    def _fill(self) -> None:
        begun, end = self._filled, len(self.files)
        columns = self._columns
        if end > len(columns[0]):
            columns = tuple(_grown(c, max(2 * end, _ROOM), 0) for c in columns)
        files = self.files[begun:end]
        names = (self.time_column or "", "series_id")
        for i, name in enumerate(names):
            least = (file.minimum.get(name, LOWEST) for file in files)
            most = (file.maximum.get(name, HIGHEST) for file in files)
            columns[2 * i][begun:end] = np.fromiter(least, np.int64, end - begun)
            columns[2 * i + 1][begun:end] = np.fromiter(most, np.int64, end - begun)
        self._columns = columns
        self._filled = end


def _grown(column: Ints, room: int, filler: int) -> Ints:
    grown = np.full(room, filler, np.int64)
    grown[: len(column)] = column
    return grown
