"""Holds the label sets of many series as columns of interned values.

A `LabelTable` has a row a series and a column a label name: integer codes into the distinct
values of that name. Grouping, joining and dropping labels are array operations, and their
results are kept, since tables are immutable and shared between queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt

from varve.promql.syntax.literals import quote

METRIC_NAME: Final = "__name__"
BUCKET_LABEL: Final = "le"
METADATA_LABELS: Final = frozenset({METRIC_NAME, "__type__", "__unit__"})
"""Labels that describe a series' own values: a function or arithmetic operator takes them away."""

_MOST_DERIVED: Final = 256
"""How many values a table caches before it forgets all of them."""

Labels = tuple[tuple[str, str], ...]
"""One label set: (name, value) sorted by name; no value is empty."""

Codes = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
T = TypeVar("T")


class Interned:
    """The distinct values of one label name. Code 0 is the empty value, that of an absent label."""

    __slots__ = ("codes", "values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: list[str] = [""]
        self.codes: dict[str, int] = {"": 0}
        for value in values:
            self.code(value)

    def code(self, value: str) -> int:
        """The code of `value`, which is a new one if the value is new."""
        code = self.codes.get(value)
        if code is None:
            code = self.codes[value] = len(self.values)
            self.values.append(value)
        return code


@dataclass(frozen=True, slots=True)
class Column:
    """Row i has the value `interned.values[codes[i]]`."""

    codes: Codes
    interned: Interned


@dataclass(frozen=True, slots=True)
class Grouping:
    """Row i is in group ids[i], whose labels are that row of `table`.

    Groups are numbered as they first come.
    """

    ids: Rows
    table: LabelTable

    @property
    def size(self) -> int:
        return self.table.size


class LabelTable:
    """The label sets of `size` rows. It is immutable, and equal label sets may occur twice."""

    __slots__ = ("_cache", "columns", "size")

    def __init__(self, size: int, columns: Mapping[str, Column]) -> None:
        self.size = size
        self.columns = dict(sorted(columns.items()))
        self._cache: dict[Any, Any] = {}

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]]) -> LabelTable:
        """A table of label sets given one by one; empty values count as absent."""
        names = sorted({name for row in rows for name in row})
        columns = {}
        for name in names:
            interned = Interned()
            codes = np.array([interned.code(row.get(name, "")) for row in rows], dtype=np.int32)
            columns[name] = Column(codes, interned)
        return cls(len(rows), columns)

    @classmethod
    def empty_sets(cls, size: int = 1) -> LabelTable:
        """`size` rows without labels."""
        return cls(size, {})

    def cached(self, key: Any, make: Callable[[], T]) -> T:
        """Returns what `make` does, which is called once for each key and kept with the table."""
        try:
            return cast(T, self._cache[key])
        except KeyError:
            if len(self._cache) >= _MOST_DERIVED:
                self._cache.clear()
            value = self._cache[key] = make()
            return value

    def get(self, row: int, name: str) -> str:
        """The value of a label, empty if the row has none."""
        column = self.columns.get(name)
        return "" if column is None else column.interned.values[column.codes[row]]

    def values_of(self, name: str) -> list[str]:
        """The value of a label in every row."""
        column = self.columns.get(name)
        if column is None:
            return [""] * self.size
        values = column.interned.values
        return [values[code] for code in column.codes.tolist()]

    def labels(self) -> list[Labels]:
        """The label set of every row."""

        def make() -> list[Labels]:
            columns = [(name, self.values_of(name)) for name in self.columns]
            return [
                tuple((name, values[i]) for name, values in columns if values[i])
                for i in range(self.size)
            ]

        return self.cached("labels", make)

    def dicts(self) -> Iterator[dict[str, str]]:
        """The label set of every row as a new dict."""
        return (dict(row) for row in self.labels())

    def take(self, rows: Rows) -> LabelTable:
        """The given rows, in that order."""
        columns = {
            name: Column(column.codes[rows], column.interned)
            for name, column in self.columns.items()
        }
        return LabelTable(len(rows), columns)

    def select(self, mask: npt.NDArray[np.bool_]) -> LabelTable:
        """The rows where `mask` holds; the table itself if that is all of them."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def without(self, names: Iterable[str]) -> LabelTable:
        """All rows without some labels."""
        dropped = frozenset(name for name in names if name in self.columns)
        if not dropped:
            return self

        def make() -> LabelTable:
            kept = {n: column for n, column in self.columns.items() if n not in dropped}
            return LabelTable(self.size, kept)

        return self.cached(("without", dropped), make)

    def only(self, names: Iterable[str]) -> LabelTable:
        """All rows without all other labels."""
        return self.without(self.columns.keys() - frozenset(names))

    def without_metadata(self, mask: npt.NDArray[np.bool_]) -> LabelTable:
        """All rows; those where `mask` holds lose name, type and unit."""
        if mask.all():
            return self.without(METADATA_LABELS)
        if not mask.any():
            return self
        columns = dict(self.columns)
        for name in METADATA_LABELS & columns.keys():
            column = columns[name]
            codes = np.where(mask, np.int32(0), column.codes)
            columns[name] = Column(codes, column.interned)
        return LabelTable(self.size, columns)

    def with_label(self, name: str, values: Sequence[str]) -> LabelTable:
        """All rows with a label set to values[row]. An empty value takes it away."""
        interned = Interned()
        codes = np.array([interned.code(value) for value in values], dtype=np.int32)
        return LabelTable(self.size, self.columns | {name: Column(codes, interned)})

    def group(self, names: tuple[str, ...], *, without: bool) -> Grouping:
        """Groups the rows by some labels, or by all but these and the metric name."""

        def make() -> Grouping:
            base = self.without((*names, METRIC_NAME)) if without else self.only(names)
            ids, firsts = base.distinct()
            return Grouping(ids, base.take(firsts))

        return self.cached(("group", names, without), make)

    def is_unique(self) -> bool:
        """Whether no two rows have the same labels."""
        return self.cached("unique", lambda: len(self.distinct()[1]) == self.size)

    def label_set_ids(self) -> Rows:
        """A number for each row's label set. Label sets are numbered as they first come."""
        return self.distinct()[0]

    def sort_order(self) -> Rows:
        """Row numbers sorted by labels."""

        def make() -> Rows:
            labels = self.labels()
            return np.array(sorted(range(self.size), key=labels.__getitem__), dtype=np.int64)

        return self.cached("order", make)

    def distinct(self) -> tuple[Rows, Rows]:
        """(label_set_ids, the first row of each label set)."""

        def make() -> tuple[Rows, Rows]:
            return number_rows([column.codes for column in self.columns.values()], self.size)

        return self.cached("identities", make)


def members_of(grouping: Grouping) -> tuple[Rows, Rows]:
    """The rows of each group, in ascending order: (order, indptr)."""
    order = np.argsort(grouping.ids, kind="stable")
    counts = np.bincount(grouping.ids, minlength=grouping.size)
    indptr = np.zeros(grouping.size + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    return order.astype(np.int64), indptr


def number_rows(columns: Sequence[npt.NDArray[Any]], size: int) -> tuple[Rows, Rows]:
    """Numbers distinct rows of `columns` as they first come: (number of each row, first rows)."""
    if not columns or size == 0:
        return np.zeros(size, dtype=np.int64), np.zeros(min(size, 1), dtype=np.int64)
    keys = columns[0].astype(np.int64)
    for column in columns[1:]:
        span = int(column.max()) + 1
        if span == 1:
            continue
        if int(keys.max()) > (2**62) // span:
            keys = np.unique(keys, return_inverse=True)[1].astype(np.int64)
        keys = keys * span + column
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    by_first = np.argsort(firsts, kind="stable")
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[by_first] = np.arange(len(firsts))
    return rank[inverse.reshape(-1)], firsts[by_first].astype(np.int64)


def match_group_ids(
    tables: Sequence[LabelTable], names: tuple[str, ...], *, on: bool
) -> tuple[list[Rows], int]:
    """Numbers match groups across tables, by `names` if on, else by all but these and the name.

    Returns the number of each row of each table, and how many numbers there are.
    """
    if on:
        reduced = [table.only(names) for table in tables]
    else:
        reduced = [table.without((*names, METRIC_NAME)) for table in tables]
    names_used = sorted({name for table in reduced for name in table.columns})
    columns = [
        _joint_column([table.columns.get(name) for table in reduced], reduced)
        for name in names_used
    ]
    numbers, firsts = number_rows(columns, sum(table.size for table in tables))
    edges = np.cumsum([table.size for table in tables])[:-1]
    return np.split(numbers, edges), len(firsts)


def _joint_column(columns: Sequence[Column | None], tables: Sequence[LabelTable]) -> Codes:
    """The codes of one label over the rows of all tables, equal for equal values."""
    shared: Interned | None = None
    parts: list[Codes] = []
    for column, table in zip(columns, tables, strict=True):
        if column is None:
            parts.append(np.zeros(table.size, dtype=np.int32))
        elif shared is None:
            shared = column.interned
            parts.append(column.codes)
        elif column.interned is shared:
            parts.append(column.codes)
        else:
            if not isinstance(shared, _Overlay):
                shared = _Overlay(shared)
            known = shared
            used, inverse = np.unique(column.codes, return_inverse=True)
            values = column.interned.values
            translated = np.array([known.code(values[code]) for code in used], dtype=np.int32)
            parts.append(translated[inverse.reshape(-1)])
    return np.concatenate(parts)


class _Overlay(Interned):
    """A copy of interned values that may grow, while tables share the original."""

    __slots__ = ()

    def __init__(self, base: Interned) -> None:
        self.values = list(base.values)
        self.codes = dict(base.codes)


def concatenate(tables: Sequence[LabelTable]) -> LabelTable:
    """The rows of all tables, one after the other."""
    names = sorted({name for table in tables for name in table.columns})
    columns = {}
    for name in names:
        present = [table.columns.get(name) for table in tables]
        interned = Interned()
        first = next(column for column in present if column is not None)
        if all(column is None or column.interned is first.interned for column in present):
            interned = first.interned
            parts = [
                np.zeros(table.size, dtype=np.int32) if column is None else column.codes
                for column, table in zip(present, tables, strict=True)
            ]
        else:
            parts = []
            for table in tables:
                values = table.values_of(name)
                parts.append(np.array([interned.code(v) for v in values], dtype=np.int32))
        columns[name] = Column(np.concatenate(parts), interned)
    return LabelTable(sum(table.size for table in tables), columns)


def format_labels(labels: Labels) -> str:
    """A label set as Prometheus prints it in errors: `{__name__="up", job="node"}`."""
    return "{" + ", ".join(f"{_format_name(name)}={quote(value)}" for name, value in labels) + "}"


def _format_name(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit()
    return name if plain else quote(name)
