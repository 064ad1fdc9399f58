"""Series that are to be registered, as rows of the table series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest.definition_columns import BroughtDefinitions, Ids
from varve.ingest.series_id_index import SeriesKey
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema

Registration = tuple[SeriesDefinition, int]
"""A definition and the time of its earliest sample, ms."""

Places = npt.NDArray[np.intp]


class NewSeries:
    """Series that a task has found to be new. They are columns as long as all came as such and none
    was unusual; then objects.
    """

    def __init__(self, brought: BroughtDefinitions) -> None:
        self._brought = brought
        self._parts: list[tuple[Places, Ids]] = []
        self._by_key: dict[SeriesKey, Registration] | None = None

    @property
    def takes_columns(self) -> bool:
        return not self._by_key

    def add(self, places: Places, earliest: Ids) -> None:
        """Adds series by the places of their definitions, each with its earliest sample, ms."""
        self._parts.append((places, earliest))

    @property
    def by_key(self) -> dict[SeriesKey, Registration]:
        """The series as objects, which they are from now on. May be changed."""
        if self._by_key is None:
            self._by_key = {}
        if self._parts:
            found = registrations(self.rows())
            self._by_key |= {(d.series_id, d.check): (d, ts) for d, ts in found}
            self._parts = []
        return self._by_key

    def rows(self) -> pa.Table:
        """Rows of the table series, each series once; last_seen is 0."""
        if not self._parts:
            return series_rows(list((self._by_key or {}).values()), 0)
        places = np.concatenate([places for places, _ in self._parts])
        earliest = np.concatenate([times for _, times in self._parts])
        whole = self._brought.whole
        ids, checks = whole.ids[places], whole.checks[places]
        # A series that was met more than once: its last definition and its earliest time.
        order = np.lexsort((checks, ids))
        ids, checks = ids[order], checks[order]
        begins = np.append(True, (ids[1:] != ids[:-1]) | (checks[1:] != checks[:-1]))
        firsts = np.flatnonzero(begins)
        lasts = np.append(firsts[1:], len(ids)) - 1
        return rows_of(
            ids[firsts],
            checks[firsts],
            whole.texts.take(pa.array(places[order][lasts])),
            np.minimum.reduceat(earliest[order], firsts),
            0,
        )

    def __len__(self) -> int:
        if self._parts:
            return self.rows().num_rows
        return len(self._by_key or ())


def rows_of(
    ids: Ids, checks: npt.NDArray[np.int32], texts: pa.Table, first_seen: Ids, now_ms: int
) -> pa.Table:
    """Rows of the table series, registered at now_ms. texts: metric, tags, type, unit, help."""
    columns = [pa.array(ids), pa.array(checks), *texts.columns, pa.array(first_seen)]
    columns.append(pa.array(np.full(len(ids), now_ms)))
    return pa.Table.from_arrays(columns, schema=table_schema("series").arrow)


def series_rows(definitions: Sequence[Registration], now_ms: int) -> pa.Table:
    """Rows of the table series, registered at now_ms."""
    columns = {
        "series_id": [d.series_id for d, _ in definitions],
        "check": [d.check for d, _ in definitions],
        "metric": [d.metric for d, _ in definitions],
        "tags": [d.tags for d, _ in definitions],
        "type": [d.type for d, _ in definitions],
        "unit": [d.unit for d, _ in definitions],
        "help": [d.help for d, _ in definitions],
        "first_seen": [ts for _, ts in definitions],
        "last_seen": [now_ms] * len(definitions),
    }
    return pa.Table.from_pydict(columns, schema=table_schema("series").arrow)


def registrations(rows: pa.Table) -> list[Registration]:
    """Rows of the table series as objects."""
    columns = (rows.column(name).to_pylist() for name in rows.column_names[:8])
    return [
        (SeriesDefinition(series_id, check, metric, tuple(tags), kind, unit, text), first_seen)
        for series_id, check, metric, tags, kind, unit, text, first_seen in zip(
            *columns, strict=True
        )
    ]
