"""Holds the label sets of many series as columns of interned values.

A `LabelTable` has a row a series and a column a label name: integer codes into the distinct
values of that name. Grouping, joining and dropping labels are array operations, and their
results are kept, since tables are immutable and shared between queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt

from varve.promql.interrupt import Check, checked, never
from varve.promql.labels.text_order import text_order
from varve.promql.syntax.literals import quote

METRIC_NAME: Final = "__name__"
BUCKET_LABEL: Final = "le"
METADATA_LABELS: Final = frozenset({METRIC_NAME, "__type__", "__unit__"})
"""Labels that describe a series' own values: a function or arithmetic operator takes them away."""

_MOST_CACHED: Final = 256
"""How many values a table caches before it forgets all of them."""

_LEAST_CACHE_BYTES: Final = 16 << 20
_CACHE_BYTES_A_ROW: Final = 4096
"""What a table caches may take the greater of both before it forgets all of it."""

_FEW_ROWS: Final = 256
"""Up to here rows are sorted by their labels as Python compares them, beyond by arrays."""

_BYTES_A_VALUE: Final = 160
"""About what an interned value takes beside its characters: two objects and a place in a dict."""

Labels = tuple[tuple[str, str], ...]
"""One label set: (name, value) sorted by name; no value is empty."""

Codes = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
T = TypeVar("T")


class Interned:
    """The distinct values of one label name. Code 0 is the empty value, that of an absent label.

    One thread may intern values while others read. A value is in `values` before its code is in
    `codes`, so that any code that is seen can be looked up.
    """

    __slots__ = ("codes", "nbytes", "values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: list[str] = [""]
        self.codes: dict[str, int] = {"": 0}
        self.nbytes = 0
        """About what the values take in memory."""
        for value in values:
            self.code(value)

    def code(self, value: str) -> int:
        """The code of `value`, which is a new one if the value is new."""
        code = self.codes.get(value)
        if code is None:
            code = len(self.values)
            self.values.append(value)
            self.codes[value] = code
            self.nbytes += _BYTES_A_VALUE + len(value)
        return code


@dataclass(frozen=True, slots=True)
class Column:
    """Row i has the value `interned.values[codes[i]]`."""

    codes: Codes
    interned: Interned

    def values(self) -> list[str]:
        """The value of each code up to the greatest in the column."""
        return self.interned.values[: int(self.codes.max(initial=0)) + 1]

    @property
    def held_rows(self) -> None:
        """Every row has a code."""

    def at(self, rows: Rows) -> Codes:
        """The codes of some rows."""
        return self.codes[rows]

    def rows_accepted(self, accepted: npt.NDArray[np.bool_]) -> Rows:
        """The rows, ascending, whose code is accepted."""
        return np.flatnonzero(accepted[self.codes])


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

    __slots__ = ("_cache", "_cached_bytes", "_codes_bytes", "columns", "size")

    def __init__(self, size: int, columns: Mapping[str, Column]) -> None:
        self.size = size
        self.columns = dict(sorted(columns.items()))
        self._cache: dict[Any, Any] = {}
        self._cached_bytes = 0
        self._codes_bytes = -1

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], check: Check = never) -> LabelTable:
        """A table of label sets given one by one; empty values count as absent.

        check: see interrupt.py.
        """
        names = sorted({name for row in checked(rows, check) for name in row})
        columns = {}
        for name in names:
            interned = Interned()
            codes = [interned.code(row.get(name, "")) for row in checked(rows, check)]
            columns[name] = Column(np.array(codes, dtype=np.int32), interned)
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
            value = make()
            most = max(_LEAST_CACHE_BYTES, self.size * _CACHE_BYTES_A_ROW)
            if len(self._cache) >= _MOST_CACHED or self._cached_bytes > most:
                self._cache, self._cached_bytes = {}, 0
            self._cache[key] = value
            self._cached_bytes += size_of(value)
            return value

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and, roughly, of what is cached; interned values are shared."""
        if self._codes_bytes < 0:
            self._codes_bytes = sum(column.codes.nbytes for column in self.columns.values())
        return self._codes_bytes + self._cached_bytes

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

    def labels(self, check: Check = never) -> list[Labels]:
        """The label set of every row. check: see interrupt.py."""

        def make() -> list[Labels]:
            columns = [
                (name, self.values_of(name)) for name in checked(self.columns, check, every=1)
            ]
            return [
                tuple((name, values[i]) for name, values in columns if values[i])
                for i in checked(range(self.size), check)
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

    def take_all(self) -> LabelTable:
        """The table itself."""
        return self

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
        return self.with_column(name, Column(codes, interned))

    def with_column(self, name: str, column: Column) -> LabelTable:
        """All rows with a label set to the values of a column."""
        return LabelTable(self.size, self.columns | {name: column})

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

    def sort_order(self, check: Check = never) -> Rows:
        """Row numbers sorted by labels. check: see interrupt.py."""

        def make() -> Rows:
            if self.size > _FEW_ROWS:
                return self._sort_order_by_columns(check)
            labels = self.labels()
            return np.array(sorted(range(self.size), key=labels.__getitem__), dtype=np.int64)

        return self.cached("order", make)

    def _sort_order_by_columns(self, check: Check) -> Rows:
        """As `sort_order`, by arrays.

        Where two rows first differ, the one with a value comes before one that lacks the label but
        has a later one; a row without any later label is the shorter one and comes first.
        """
        order = np.arange(self.size)
        has_later = np.zeros(self.size, dtype=np.bool_)
        for column in reversed(self.columns.values()):
            check()
            is_used = np.zeros(int(column.codes.max(initial=0)) + 1, dtype=np.bool_)
            is_used[column.codes] = True
            used = np.flatnonzero(is_used)
            rank = np.zeros(len(is_used), dtype=np.int32)
            rank[used[text_order(column.interned.values, used, check)]] = np.arange(
                1, len(used) + 1
            )
            check()
            absent = column.codes == 0
            key = rank[column.codes]
            key[absent] = np.where(has_later[absent], len(used) + 1, 0)
            order = order[np.argsort(key[order], kind="stable")]
            has_later |= ~absent
        return order

    def distinct(self) -> tuple[Rows, Rows]:
        """(label_set_ids, the first row of each label set)."""

        def make() -> tuple[Rows, Rows]:
            return number_rows([column.codes for column in self.columns.values()], self.size)

        return self.cached("identities", make)


def size_of(value: Any) -> int:
    """About how many bytes a value takes that is cached with a table.

    Texts within containers are taken for shared, and of a list the first elements for typical.
    """
    if isinstance(value, np.ndarray | LabelTable):
        return value.nbytes
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Column):
        return value.codes.nbytes
    if isinstance(value, tuple | list):
        if not value or isinstance(value[0], str):
            return 56 + 8 * len(value)
        seen = value[:_TYPICAL]
        each = sum(map(size_of, seen)) / len(seen)
        return 56 + int(len(value) * (8 + each))
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    return 0


_TYPICAL: Final = 4


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


def format_labels(labels: Labels) -> str:
    """A label set as Prometheus prints it in errors: `{__name__="up", job="node"}`."""
    return "{" + ", ".join(f"{_format_name(name)}={quote(value)}" for name, value in labels) + "}"


def _format_name(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit()
    return name if plain else quote(name)
