"""The driver's side of the table series: definitions are durable before their samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from varve.ingest.known import CONTESTED, KNOWN, KnownSeries
from varve.model.errors import Conflict, TemporaryError
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table

TRANSACTION = "registry"
_ATTEMPTS = 20


class Registry:
    """Registers series; several drivers may do so at once. Not safe to share by threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = Table(store, "series")
        self.known = KnownSeries(store)

    def register(
        self, definitions: Sequence[tuple[SeriesDefinition, int]]
    ) -> frozenset[tuple[int, int]]:
        """Makes the definitions durable; each comes with the time of its earliest sample, ms.

        Returns the (series_id, check) refused because another series has the id. Raises
        TemporaryError if rivals registered first in every attempt.
        """
        for _ in range(_ATTEMPTS):
            self._table.refresh()
            self.known.advance(self._table.version)
            position = self._table.position(TRANSACTION)
            fresh, refused = self._sort_out(definitions)
            if not fresh:
                return refused
            rows = _rows(fresh)
            step = Step(position, 0 if position is None else position + 1)
            try:
                added = write_file(self._store, "series", rows)
                commit(self._table, [added], transactions={TRANSACTION: step})
            except Conflict:
                continue
            self.known.advance(self._table.version)
            return refused
        raise TemporaryError(f"{_ATTEMPTS} attempts to register series met a rival's commit")

    def _sort_out(
        self, definitions: Sequence[tuple[SeriesDefinition, int]]
    ) -> tuple[list[tuple[SeriesDefinition, int]], frozenset[tuple[int, int]]]:
        """What to add, by id, and what is refused. Of two new series with one id the one with
        the lesser check is registered, whatever the order they came in.
        """
        first: dict[tuple[int, int], tuple[SeriesDefinition, int]] = {}
        for definition, ts in definitions:
            key = definition.series_id, definition.check
            if key not in first or ts < first[key][1]:
                first[key] = definition, ts
        keys = sorted(first)
        status = self.known.status(
            np.array([k[0] for k in keys], dtype=np.int64),
            np.array([k[1] for k in keys], dtype=np.int32),
        )
        fresh, refused, last = [], set(), None
        for key, known in zip(keys, status.tolist(), strict=True):
            if known == CONTESTED or (known != KNOWN and key[0] == last):
                refused.add(key)
            elif known != KNOWN:
                fresh.append(first[key])
                last = key[0]
        return fresh, frozenset(refused)


def _rows(definitions: Sequence[tuple[SeriesDefinition, int]]) -> pa.Table:
    rows = [
        {
            "series_id": d.series_id,
            "check": d.check,
            "metric": d.metric,
            "tags": list(d.tags),
            "type": d.type,
            "unit": d.unit,
            "help": d.help,
            "first_seen": ts,
            "last_seen": ts,
        }
        for d, ts in definitions
    ]
    return pa.Table.from_pylist(rows, schema=table_schema("series").arrow)
