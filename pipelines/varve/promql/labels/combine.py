"""Relates the rows of several label tables: match groups, and one table of all rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varve.promql.labels.label_table import (
    METRIC_NAME,
    Codes,
    Column,
    Interned,
    LabelTable,
    Rows,
    number_rows,
)


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
    columns = [_joint_column(reduced, name).codes for name in names_used]
    numbers, firsts = number_rows(columns, sum(table.size for table in tables))
    edges = np.cumsum([table.size for table in tables])[:-1]
    return np.split(numbers, edges), len(firsts)


def concatenate(tables: Sequence[LabelTable]) -> LabelTable:
    """The rows of all tables, one after the other."""
    names = sorted({name for table in tables for name in table.columns})
    columns = {name: _joint_column(tables, name) for name in names}
    return LabelTable(sum(table.size for table in tables), columns)


def _joint_column(tables: Sequence[LabelTable], name: str) -> Column:
    """One label over the rows of all tables, of which one or more have it."""
    columns = [table.columns.get(name) for table in tables]
    interned = next(column for column in columns if column is not None).interned
    if any(column is not None and column.interned is not interned for column in columns):
        interned = Interned()
    parts = [
        np.zeros(table.size, dtype=np.int32) if column is None else _codes_in(interned, column)
        for column, table in zip(columns, tables, strict=True)
    ]
    return Column(np.concatenate(parts), interned)


def _codes_in(interned: Interned, column: Column) -> Codes:
    """The codes that the values of a column have in `interned`, which gets those it lacks."""
    if column.interned is interned:
        return column.codes
    used, inverse = np.unique(column.codes, return_inverse=True)
    values = column.interned.values
    codes = np.array([interned.code(values[code]) for code in used.tolist()], dtype=np.int32)
    return codes[inverse.reshape(-1)]
