"""The driver's side of the table series: definitions are durable before their samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from varve.ingest.known import CONTESTED, KNOWN, KnownSeries
from varve.ingest.limits import Limits
from varve.ingest.reasons import Reason
from varve.model.errors import Conflict, TemporaryError
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Bounds, Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

TRANSACTION = "registry"
_ATTEMPTS = 20
_NO_LIMITS = Limits()

Key = tuple[int, int]
"""(series_id, check) of a series."""
Registration = tuple[SeriesDefinition, int]
"""A definition and the time of its earliest sample, ms."""


class Registry:
    """Registers series; several drivers may do so at once. Not safe to share by threads."""

    def __init__(self, store: Store, scratch: str = "") -> None:
        """scratch: as in RunFolder."""
        self._store = store
        self._table = Table(store, "series", files=True)
        self.known = KnownSeries(store, scratch)
        self.series_of: Counter[str] = Counter()
        """Series by metric, as of the last look at the table."""
        self._count(live_files(self._table))

    def full(self, limits: Limits) -> frozenset[str]:
        """Metrics that can have no new series."""
        if self.series_of.total() >= limits.series:
            return frozenset(self.series_of)
        return frozenset(m for m, n in self.series_of.items() if n >= limits.of(m).series)

    def register(
        self, definitions: Sequence[Registration], limits: Limits = _NO_LIMITS
    ) -> Mapping[Key, Reason]:
        """Makes the definitions durable; each comes with the time of its earliest sample, ms.

        Returns the (series_id, check) refused, and why. Raises TemporaryError if rivals
        registered first in every attempt.
        """
        for _ in range(_ATTEMPTS):
            self._look()
            if self._table.version > self.known.version:
                continue
            position = self._table.position(TRANSACTION)
            fresh, refused = self._sort_out(definitions, limits)
            if not fresh:
                return refused
            step = Step(position, 0 if position is None else position + 1)
            try:
                added = write_file(self._store, "series", _rows(fresh))
                commit(self._table, [added], transactions={TRANSACTION: step})
            except Conflict:
                continue
            self.series_of.update(d.metric for d, _ in fresh)
            self.known.advance(self._table.version)
            return refused
        raise TemporaryError(f"{_ATTEMPTS} attempts to register series met a rival's commit")

    def knows_any(self, keys: Sequence[Key]) -> bool:
        """Whether one of the series has been registered by now."""
        if not keys:
            return False
        ids, checks = np.array(keys, np.int64).T
        return bool((self.known.status(ids, checks.astype(np.int32)) == KNOWN).any())

    def _look(self) -> None:
        """Learns what others have registered."""
        self.known.advance()
        fresh = self._table.refresh()
        if fresh is None:
            self.series_of.clear()
            self._count(live_files(self._table))
        else:
            self._count([file for entry in fresh for file in entry.adds])

    def _count(self, files: Sequence[LiveFile]) -> None:
        for file in files:
            snapshot = Snapshot(self._store, "series", self._table.version, (file,))
            metrics = snapshot.scan(Bounds(), ["metric"]).column("metric")
            for count in metrics.value_counts().to_pylist():
                self.series_of[count["values"]] += count["counts"]

    def _sort_out(
        self, definitions: Sequence[Registration], limits: Limits
    ) -> tuple[list[Registration], dict[Key, Reason]]:
        """What to add, by id, and what is refused. Of two new series with one id the one with
        the lesser check is registered, whatever the order they came in.
        """
        counts, total = self.series_of.copy(), self.series_of.total()
        first: dict[Key, Registration] = {}
        for definition, ts in definitions:
            key = definition.series_id, definition.check
            if key not in first or ts < first[key][1]:
                first[key] = definition, ts
        keys = sorted(first)
        ids = np.array([k[0] for k in keys], np.int64)
        checks = np.array([k[1] for k in keys], np.int32)
        fresh: list[Registration] = []
        refused: dict[Key, Reason] = {}
        taken = None
        for key, known in zip(keys, self.known.status(ids, checks).tolist(), strict=True):
            if known == CONTESTED or (known != KNOWN and key[0] == taken):
                refused[key] = Reason.ID_COLLISION
            elif known != KNOWN:
                metric = first[key][0].metric
                if counts[metric] >= limits.of(metric).series or total >= limits.series:
                    refused[key] = Reason.CARDINALITY_LIMIT
                    continue
                counts[metric] += 1
                total += 1
                fresh.append(first[key])
                taken = key[0]
        return fresh, refused


def _rows(definitions: Sequence[Registration]) -> pa.Table:
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
