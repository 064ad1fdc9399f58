"""Finds the rows of a label table that matchers match, by postings and distinct values."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from varve.promql.interrupt import Check, checked, never
from varve.promql.labels.label_table import Codes, Interned, LabelTable, Rows
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.syntax.regexes import compile_anchored, matching

Bools = npt.NDArray[np.bool_]
Rows32 = npt.NDArray[np.int32]

_NO_ROWS: Final[Rows] = np.zeros(0, dtype=np.int64)
# Rows of a column are looked through, beside an eighth of it, before its postings are made anew.
_FEW_GROWN: Final = 4_096


def value_test(matcher: Matcher) -> Callable[[str], bool]:
    """Whether a label value satisfies `matcher`. ValueError if its regex is malformed."""
    if matcher.op is MatchOp.EQUAL:
        return lambda value: value == matcher.value
    if matcher.op is MatchOp.NOT_EQUAL:
        return lambda value: value != matcher.value
    match = compile_anchored(matcher.value).fullmatch
    if matcher.op is MatchOp.REGEX:
        return lambda value: match(value) is not None
    return lambda value: match(value) is None


def _tested(matcher: Matcher, values: Sequence[str], places: range, check: Check) -> Bools:
    """Whether the values at some places satisfy `matcher`. ValueError if its regex is malformed."""
    if matcher.op in {MatchOp.REGEX, MatchOp.NOT_REGEX}:
        found = matching(matcher.value, values, places, check)
        return found if matcher.op is MatchOp.REGEX else ~found
    test = value_test(matcher)
    return np.array([test(values[place]) for place in checked(places, check)], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class LabelPostings:
    """The rows of each value of one label: value `code` is in rows[indptr[code]:indptr[code + 1]].

    Code 0, the absent value, may have none. Postings are of the first codes of a column, so many as
    there are rows here: a column that has grown since is looked through from there on.
    """

    rows: Rows32
    indptr: Rows
    is_dense: bool

    @classmethod
    def of(cls, codes: Codes, rows: Rows32 | None = None) -> LabelPostings:
        """rows: where each code is, ascending; all rows if None."""
        indptr = np.concatenate(([0], np.cumsum(np.bincount(codes)))).astype(np.int64)
        order = np.argsort(codes, kind="stable").astype(np.int32)
        return cls(order if rows is None else rows[order], indptr, rows is None)

    def serves(self, column: PostedColumn) -> bool:
        """Whether the column is the one of these postings, grown by few rows at most."""
        grown = len(column.codes) - len(self.rows)
        is_dense = column.held_rows is None
        return is_dense == self.is_dense and 0 <= grown <= _FEW_GROWN + len(self.rows) // 8

    def rows_of(self, code: int, column: PostedColumn) -> Rows:
        """The rows, ascending, of a code in a column that these serve."""
        begin, end = self._span(code)
        found = self.rows[begin:end].astype(np.int64)
        known, held = len(self.rows), column.held_rows
        if known == len(column.codes):
            return found
        later = np.flatnonzero(column.codes[known:] == code) + known
        return np.concatenate([found, later if held is None else held[later]])

    def at_most(self, code: int, column: PostedColumn) -> int:
        """So many rows may have a code in a column that these serve."""
        begin, end = self._span(code)
        return end - begin + len(column.codes) - len(self.rows)

    def _span(self, code: int) -> tuple[int, int]:
        if code + 1 >= len(self.indptr):
            return 0, 0
        return int(self.indptr[code]), int(self.indptr[code + 1])

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.indptr.nbytes


class PostedColumn(Protocol):
    """A label of the rows of a table, by codes of its values; 0 is the absent one."""

    @property
    def interned(self) -> Interned: ...

    @property
    def codes(self) -> Codes:
        """Of the rows that `held_rows` names."""
        ...

    @property
    def held_rows(self) -> Rows32 | None:
        """Rows, ascending, that have a code; None for all."""
        ...

    def at(self, rows: Rows) -> Codes:
        """The codes of some rows, in ascending order."""
        ...

    def rows_accepted(self, accepted: Bools) -> Rows:
        """The rows, ascending, whose code is accepted."""
        ...


class PostedTable(Protocol):
    """What has postings: a label table, or another form of one."""

    size: int

    @property
    def columns(self) -> Mapping[str, PostedColumn]: ...

    def take(self, rows: Rows) -> LabelTable: ...

    def take_all(self) -> LabelTable: ...


T = TypeVar("T", bound=PostedTable)


class Postings(Generic[T]):
    """Postings over the rows of one label table, which may be asked from many threads.

    Rows of a value are found without a scan; a regex is tried once on each distinct value, while
    no lock is held. Selections are kept with their tables, the last used longest, up to `max_bytes`
    and `most_kept` of them. The values of the table may go on being interned by one other thread.
    """

    def __init__(
        self,
        table: T,
        max_bytes: int = 256 << 20,
        most_kept: int = 1024,
        before: Postings[T] | None = None,
    ) -> None:
        """before: those of a table that this one continues. Its rows are the first ones here, its
        values have the same codes; what was found out of them is used further.
        """
        self.table = table
        self._max_bytes = max_bytes
        self._most_kept = most_kept
        self._by_label: dict[str, LabelPostings] = {}
        self._earlier: dict[str, LabelPostings] = {}
        self._accepted: OrderedDict[Matcher, Bools] = OrderedDict()
        self._selections: OrderedDict[tuple[Matcher, ...], tuple[Rows, LabelTable]] = OrderedDict()
        self._lock = threading.Lock()
        if before is not None:
            self._earlier, self._accepted = before._known()  # noqa: SLF001 - another of this class

    def _known(self) -> tuple[dict[str, LabelPostings], OrderedDict[Matcher, Bools]]:
        """What another may use further."""
        with self._lock:
            return self._earlier | self._by_label, self._accepted.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of postings and kept selections; the table itself is not counted."""
        with self._lock:
            return self._kept_bytes() + sum(label.nbytes for label in self._by_label.values())

    def find(self, matchers: Sequence[Matcher], check: Check = never) -> tuple[Rows, LabelTable]:
        """The rows that every matcher matches, ascending, and the table of them.

        check: see interrupt.py. ValueError if a regex is malformed.
        """
        key = tuple(matchers)
        with self._lock:
            found = self._selections.get(key)
            if found is not None:
                self._selections.move_to_end(key)
                return found
        rows = self.rows(key, check)
        is_all = len(rows) == self.table.size
        table = self.table.take_all() if is_all else self.table.take(rows)
        with self._lock:
            # The first one stays, so that equal selections share one table.
            found = self._selections.setdefault(key, (rows, table))
            self._evict()
        return found

    def rows(self, matchers: Sequence[Matcher], check: Check = never) -> Rows:
        """The rows of `find` alone, which are not kept."""
        rows: Rows | None = None
        narrow = min(
            (m for m in matchers if m.op is MatchOp.EQUAL and m.value),
            key=self._posting_length,
            default=None,
        )
        if narrow is not None:
            rows = self._posting(narrow)
        for matcher in matchers:
            if matcher is narrow:
                continue
            column = self.table.columns.get(matcher.name)
            if column is None:
                if not value_test(matcher)(""):
                    return _NO_ROWS
                continue
            accepted = self._accept(matcher, column, check)
            rows = (
                column.rows_accepted(accepted) if rows is None else rows[accepted[column.at(rows)]]
            )
        return np.arange(self.table.size) if rows is None else rows

    def _evict(self) -> None:
        """Forgets what was used least lately, but never the last selection. Needs the lock."""
        while len(self._selections) > self._most_kept:
            self._selections.popitem(last=False)
        while len(self._accepted) > self._most_kept:
            self._accepted.popitem(last=False)
        excess = self._kept_bytes() - self._max_bytes
        while excess > 0 and self._accepted:
            excess -= self._accepted.popitem(last=False)[1].nbytes
        while excess > 0 and len(self._selections) > 1:
            excess -= self._bytes_of(self._selections.popitem(last=False)[1])

    def _kept_bytes(self) -> int:
        accepted = sum(codes.nbytes for codes in self._accepted.values())
        return accepted + sum(map(self._bytes_of, self._selections.values()))

    def _bytes_of(self, selection: tuple[Rows, LabelTable]) -> int:
        rows, table = selection
        is_shared = len(rows) == self.table.size
        return rows.nbytes + (0 if is_shared else table.nbytes)

    def _accept(self, matcher: Matcher, column: PostedColumn, check: Check) -> Bools:
        """Whether `matcher` accepts the value of each code in the column."""
        with self._lock:
            accepted = self._accepted.get(matcher)
            if accepted is not None:
                self._accepted.move_to_end(matcher)
        known = 0 if accepted is None else len(accepted)
        places = range(known, int(column.codes.max(initial=0)) + 1)
        if accepted is None or places:
            fresh = _tested(matcher, column.interned.values, places, check)
            accepted = fresh if accepted is None else np.concatenate([accepted, fresh])
            with self._lock:
                self._accepted[matcher] = accepted
                self._evict()
        return accepted

    def _posting_length(self, matcher: Matcher) -> int:
        column, code = self._code(matcher)
        if column is None or code is None:
            return 0
        return self._postings_of(matcher.name, column).at_most(code, column)

    def _posting(self, matcher: Matcher) -> Rows:
        """The rows whose label has exactly the value of `matcher`."""
        column, code = self._code(matcher)
        if column is None or code is None:
            return _NO_ROWS
        return self._postings_of(matcher.name, column).rows_of(code, column)

    def _code(self, matcher: Matcher) -> tuple[PostedColumn | None, int | None]:
        """The label's column, and the code of the value; None if there is none."""
        column = self.table.columns.get(matcher.name)
        return column, None if column is None else column.interned.codes.get(matcher.value)

    def _postings_of(self, name: str, column: PostedColumn) -> LabelPostings:
        found = self._by_label.get(name)
        if found is None:
            found = self._earlier.get(name)
            if found is None or not found.serves(column):
                found = LabelPostings.of(column.codes, column.held_rows)
            with self._lock:
                self._earlier.pop(name, None)
                found = self._by_label.setdefault(name, found)
        return found
