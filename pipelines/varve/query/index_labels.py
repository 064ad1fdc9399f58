"""The labels of all series that an index has: a label costs what it is held for.

A label that many series have is a code for every series; one that few have is the rows of those
and a code for each. Rows are numbered as series were registered, so they only ever come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from varve.promql.labels.label_table import Codes, Column, Interned, LabelTable, Rows
from varve.promql.labels.postings import Bools, Rows32

# A label that fewer than one in so many series have is kept by row.
_FEW = 8


@dataclass(frozen=True, slots=True)
class SparseColumn:
    """Row rows[i] (ascending) has the value `interned.values[codes[i]]`, all others none.

    `size` is the number of all rows.
    """

    rows: Rows32
    codes: Codes
    interned: Interned
    size: int

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.codes.nbytes

    def values(self) -> list[str]:
        """The value of each code up to the greatest in the column."""
        return self.interned.values[: int(self.codes.max(initial=0)) + 1]

    def at(self, rows: Rows) -> Codes:
        """The codes of some rows, in ascending order."""
        found = np.zeros(len(rows), dtype=np.int32)
        if len(rows) < len(self.rows):
            at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            is_held = self.rows[at] == rows
            found[is_held] = self.codes[at[is_held]]
        elif len(rows):
            at = np.minimum(np.searchsorted(rows, self.rows), len(rows) - 1)
            is_asked = rows[at] == self.rows
            found[at[is_asked]] = self.codes[is_asked]
        return found

    def rows_accepted(self, accepted: Bools) -> Rows:
        """The rows, ascending, whose code is accepted; accepted[0] is that of the absent value."""
        if not accepted[0]:
            return self.rows[accepted[self.codes]].astype(np.int64)
        kept = np.ones(self.size, dtype=np.bool_)
        kept[self.rows[~accepted[self.codes]]] = False
        return np.flatnonzero(kept)

    @property
    def held_rows(self) -> Rows32:
        """Rows, ascending, that have a value."""
        return self.rows


IndexColumn = Column | SparseColumn


class IndexLabels:
    """The labels of `size` series. Immutable, shared between threads."""

    def __init__(self, size: int, columns: Mapping[str, IndexColumn]) -> None:
        self.size = size
        self.columns = dict(sorted(columns.items()))

    def take(self, rows: Rows) -> LabelTable:
        """The labels of some rows, in ascending order."""
        columns = {}
        for name in self.names_within(rows):
            column = self.columns[name]
            codes = column.at(rows)
            if codes.any():
                columns[name] = Column(codes, column.interned)
        return LabelTable(len(rows), columns)

    def take_all(self) -> LabelTable:
        return self.take(np.arange(self.size))

    def names_within(self, rows: Rows) -> list[str]:
        """Names of labels, sorted, that some of the rows (ascending) may have.

        Of labels that few series have, those are left out whose rows lie between two of these.
        """
        names, first, last = self._reach
        if not len(rows):
            return []
        begin, end = np.searchsorted(rows, first), np.searchsorted(rows, last, "right")
        sparse = [names[i] for i in np.flatnonzero(begin < end).tolist()]
        return sorted([*self._dense, *sparse])

    @property
    def nbytes(self) -> int:
        """Bytes of codes and rows."""
        return sum(
            column.codes.nbytes if isinstance(column, Column) else column.nbytes
            for column in self.columns.values()
        )

    @cached_property
    def _dense(self) -> list[str]:
        return [name for name, column in self.columns.items() if isinstance(column, Column)]

    @cached_property
    def _reach(self) -> tuple[list[str], Rows32, Rows32]:
        """Names of sparse labels, and the first and last row of each."""
        sparse = [(n, c) for n, c in self.columns.items() if isinstance(c, SparseColumn)]
        first = np.array([c.rows[0] for _, c in sparse], dtype=np.int32)
        last = np.array([c.rows[-1] for _, c in sparse], dtype=np.int32)
        return [name for name, _ in sparse], first, last


@dataclass
class GrowingColumn:
    """A label's column while series come. Not safe to share; what `column` gives is: columns share
    the values, of which each has codes of the first ones only.
    """

    interned: Interned = field(default_factory=Interned)
    _rows: list[Rows32] = field(default_factory=list)
    _codes: list[Codes] = field(default_factory=list)
    _count: int = 0
    _made: IndexColumn | None = None
    """As of the last call of `column`."""

    def add(self, rows: Rows, codes: Codes) -> None:
        """Adds rows, ascending and beyond all before, with a value."""
        self._rows.append(rows.astype(np.int32))
        self._codes.append(codes)
        self._count += len(rows)

    def column(self, size: int) -> IndexColumn:
        """The column of `size` rows. It does not change when more is added."""
        before = self._made
        grown = bool(self._rows)
        if isinstance(before, Column) or _FEW * self._count > size:
            if before is None or grown or not isinstance(before, Column):
                self._made = self._dense(before, size)
            elif len(before.codes) != size:
                self._made = Column(_padded(before.codes, size), before.interned)
        elif not isinstance(before, SparseColumn) or grown or before.size != size:
            if isinstance(before, SparseColumn) and not grown:
                self._made = replace(before, size=size)
            else:
                parts = [before] if isinstance(before, SparseColumn) else []
                rows = np.concatenate([*(p.rows for p in parts), *self._rows])
                codes = np.concatenate([*(p.codes for p in parts), *self._codes])
                self._made = SparseColumn(rows, codes, self.interned, size)
        self._rows, self._codes = [], []
        assert self._made is not None  # noqa: S101 - one of the branches has made it
        return self._made

    def _dense(self, before: IndexColumn | None, size: int) -> Column:
        codes = np.zeros(size, dtype=np.int32)
        if isinstance(before, Column):
            codes[: len(before.codes)] = before.codes
        elif before is not None:
            codes[before.rows] = before.codes
        for rows, some in zip(self._rows, self._codes, strict=True):
            codes[rows] = some
        return Column(codes, self.interned)


def _padded(codes: Codes, size: int) -> Codes:
    """The codes, with 0 (an absent label) for the rows added since."""
    return np.pad(codes, (0, size - len(codes)))
