"""Finds the rows of a label table that matchers match, by postings and distinct values."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from varve.promql.labels.label_table import Interned, LabelTable, Rows
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.syntax.regexes import compile_anchored

Bools = npt.NDArray[np.bool_]


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


class Postings:
    """Postings over the rows of one label table.

    Rows of a value are found without a scan; a regex is tried once on each distinct value. The
    answers for the last `remembered` lists of matchers are kept, with the tables of their rows.
    Safe to use from many threads.
    """

    def __init__(self, table: LabelTable, remembered: int = 1024) -> None:
        self.table = table
        self._postings: dict[str, tuple[Rows, Rows]] = {}
        self._accepted: dict[Matcher, Bools] = {}
        self._found: OrderedDict[tuple[Matcher, ...], tuple[Rows, LabelTable]] = OrderedDict()
        self._remembered = remembered
        self._lock = threading.Lock()

    def find(self, matchers: Sequence[Matcher]) -> tuple[Rows, LabelTable]:
        """The rows that every matcher matches, ascending, and the table of them."""
        key = tuple(matchers)
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found
        rows = self._rows(key)
        table = self.table if len(rows) == self.table.size else self.table.take(rows)
        with self._lock:
            # Whoever came first stays, so that equal selections share one table.
            found = self._found.setdefault(key, (rows, table))
            if len(self._found) > self._remembered:
                self._found.popitem(last=False)
        return found

    def _rows(self, matchers: tuple[Matcher, ...]) -> Rows:
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
                    return np.zeros(0, dtype=np.int64)
                continue
            accepted = self._accept(matcher, column.interned)
            if rows is None:
                rows = np.flatnonzero(accepted[column.codes])
            else:
                rows = rows[accepted[column.codes[rows]]]
        return np.arange(self.table.size) if rows is None else rows

    def _accept(self, matcher: Matcher, interned: Interned) -> Bools:
        """Whether `matcher` accepts the value of each code."""
        accepted = self._accepted.get(matcher)
        if accepted is None:
            test = value_test(matcher)
            accepted = np.array([test(value) for value in interned.values], dtype=np.bool_)
            if len(self._accepted) >= self._remembered:
                self._accepted.clear()
            self._accepted[matcher] = accepted
        return accepted

    def _posting_length(self, matcher: Matcher) -> int:
        return len(self._posting(matcher))

    def _posting(self, matcher: Matcher) -> Rows:
        """Rows whose label has exactly the value of `matcher`."""
        column = self.table.columns.get(matcher.name)
        code = None if column is None else column.interned.codes.get(matcher.value)
        if column is None or code is None:
            return np.zeros(0, dtype=np.int64)
        postings = self._postings.get(matcher.name)
        if postings is None:
            order = np.argsort(column.codes, kind="stable").astype(np.int64)
            counts = np.bincount(column.codes, minlength=len(column.interned.values))
            indptr = np.zeros(len(counts) + 1, dtype=np.int64)
            np.cumsum(counts, out=indptr[1:])
            postings = self._postings[matcher.name] = order, indptr
        order, indptr = postings
        return order[indptr[code] : indptr[code + 1]]
