"""Registers series in the table series: definitions are durable before their samples."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest.active_series import Census, census
from varve.ingest.condemned_series import CondemnedSeries
from varve.ingest.definition_columns import Ids
from varve.ingest.limits import Limits
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN
from varve.ingest.metadata_notes import MetadataNotes
from varve.ingest.new_series import Registration, rows_of, series_rows
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesIdIndex, SeriesKey
from varve.model.clock import Clock, SystemClock
from varve.model.errors import Conflict, NeedsOperator, TemporaryError
from varve.model.metadata import Metadata
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import LiveFile, entries
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import Table

_ATTEMPTS = 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.005, 1.0
_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Full:
    """What can have no new series. metrics: those that have as many as they may. all: whether all
    together have.
    """

    metrics: frozenset[str] = frozenset()
    all: bool = False


class SeriesRegistry:
    """Registers series; several drivers may do so at once. Not safe to share between threads."""

    def __init__(
        self,
        store: Store,
        scratch: str,
        active_ms: int,
        clock: Clock | None = None,
    ) -> None:
        """scratch: as in RunFolder. active_ms: how far before the end of the last closed hour a
        series was seen if it is active: as in varve.ingest.active_series.
        """
        self._store = store
        self._active_ms = active_ms
        self._clock = clock or SystemClock()
        self._table = Table(store, "series")
        self._condemned = CondemnedSeries(self._table)
        self.metadata = MetadataNotes(store, self._clock)
        self.index = SeriesIdIndex(store, scratch)
        self.series_of: Counter[str] = Counter()
        """Active series by metric, as of the last census, and those registered since."""
        self._since: list[tuple[int, Counter[str]]] = []
        self._counted = -1
        # A commit that fails moves the handle, too, past what is not counted yet.
        self._seen = self._table.version
        self._offered: Census | None = None
        self._adopt(census(store, active_ms))

    def offer(self, counted: Census) -> None:
        """Hands over a newer census, for the registry's own thread to adopt. May be called from
        another thread.
        """
        self._offered = counted

    def full(self, limits: Limits) -> Full:
        """What can have no new series."""
        self._adopt_offered()
        return Full(
            frozenset(m for m, n in self.series_of.items() if n >= limits.of(m).series),
            self.series_of.total() >= limits.series,
        )

    def register(
        self, definitions: Sequence[Registration], limits: Limits = _NO_LIMITS
    ) -> Mapping[SeriesKey, Reason]:
        """Makes the definitions durable; each comes with the time of its earliest sample, ms.

        Returns the (series_id, check) refused, and why. Raises TemporaryError if rivals
        registered first in every attempt.
        """
        return self.register_rows(series_rows(definitions, 0), limits)

    def register_rows(
        self, rows: pa.Table, limits: Limits = _NO_LIMITS
    ) -> Mapping[SeriesKey, Reason]:
        """The same for rows of the table series, whose last_seen means nothing."""
        wanted = _first_of_each(rows)
        for attempt in range(_ATTEMPTS):
            _back_off(attempt)
            self._catch_up()
            if self._table.version > self.index.version:
                continue
            position = self._table.position(positions.registry())
            fresh, refused = self._split(wanted, limits)
            if not fresh.num_rows:
                return refused
            step = Step(position, 0 if position is None else position + 1)
            self.metadata.look()
            fresh = self._described(fresh)
            try:
                added = write_file(self._store, "series", fresh)
                commit(self._table, [added], transactions={positions.registry(): step})
            except Conflict:
                continue
            self._seen = self._table.version
            self._add(self._seen, _counts(fresh.column("metric")))
            self.index.advance(self._table.version)
            return refused
        raise TemporaryError(f"{_ATTEMPTS} attempts to register series met a rival's commit")

    def knows_any(self, keys: Sequence[SeriesKey]) -> bool:
        """Whether at least one of the series has been registered by now."""
        if not keys:
            return False
        ids, checks = np.array(keys, np.int64).T
        return bool((self.index.status(ids, checks.astype(np.int32)) == KNOWN).any())

    def has_any(self, series_ids: Sequence[int]) -> bool:
        """Whether one of the ids is registered by now, be it for another series."""
        ids = np.array(series_ids, np.int64)
        return bool((self.index.status(ids, np.zeros(len(ids), np.int32)) != UNKNOWN).any())

    def _catch_up(self) -> None:
        """Learns what others have registered, and what has been counted."""
        self.index.advance()
        self._adopt_offered()
        self._table.refresh()
        seen, self._seen = self._seen, self._table.version
        try:
            for entry in entries(self._store, "series", seen, self._seen):
                self._add(entry.version, self._metrics(entry.adds))
        except NeedsOperator:
            # The log in between has expired.
            self._adopt(census(self._store, self._active_ms))

    def _adopt_offered(self) -> None:
        if self._offered is not None:
            counted, self._offered = self._offered, None
            self._adopt(counted)

    def _adopt(self, counted: Census) -> None:
        self._counted = counted.version
        self._since = [(v, metrics) for v, metrics in self._since if v > counted.version]
        self.series_of = counted.active.copy()
        for _, metrics in self._since:
            self.series_of.update(metrics)

    def _add(self, version: int, metrics: Counter[str]) -> None:
        # A census may have been ahead of this handle.
        if version > self._counted:
            self._since.append((version, metrics))
            self.series_of.update(metrics)

    def _metrics(self, files: Sequence[LiveFile]) -> Counter[str]:
        snapshot = Snapshot(self._store, "series", self._table.version, tuple(files))
        return _counts(snapshot.scan(Bounds(), ["metric"]).column("metric"))

    def _described(self, rows: pa.Table) -> pa.Table:
        """The rows as they are registered now: with what is known of each metric where they say
        nothing themselves.
        """
        said = rows.select(["metric", "type", "unit", "help"])
        encoded = [column.combine_chunks().dictionary_encode() for column in said.columns]
        codes = np.zeros(rows.num_rows, np.int64)
        for column in encoded:
            codes = codes * len(column.dictionary) + column.indices.to_numpy(zero_copy_only=False)
            # Few differ; and numbered anew they stay small, however many columns are to come.
            _, firsts, codes = np.unique(codes, return_index=True, return_inverse=True)
        found = [
            self.metadata.described(row["metric"], Metadata(row["type"], row["unit"], row["help"]))
            for row in said.take(pa.array(firsts)).to_pylist()
        ]
        at = pa.array(codes)
        texts = rows.select(["metric", "tags"])
        for name in ("type", "unit", "help"):
            column = pa.array([getattr(one, name) for one in found], pa.string())
            texts = texts.append_column(name, column.take(at))
        ids, checks, first_seen = (
            rows.column(name).to_numpy() for name in ("series_id", "check", "first_seen")
        )
        return rows_of(ids, checks, texts, first_seen, self._clock.now_ms())

    def _split(self, wanted: pa.Table, limits: Limits) -> tuple[pa.Table, dict[SeriesKey, Reason]]:
        """Splits rows, sorted by id and check, into those to add and those refused. Of two new
        series with one id the one with the lesser check is registered, whatever the order they
        came in.
        """
        ids, checks = (wanted.column(name).to_numpy() for name in ("series_id", "check"))
        status = self.index.status(ids, checks)
        self._condemned.contest(ids, checks, status)
        fresh = status == UNKNOWN
        if not (status == CONTESTED).any() and self._all_may(ids[fresh], wanted, fresh, limits):
            return wanted.filter(pa.array(fresh)), {}
        refused: dict[SeriesKey, Reason] = {}
        counts, total = self.series_of.copy(), self.series_of.total()
        metrics = wanted.column("metric").to_pylist()
        taken = None
        for at in np.flatnonzero(status != KNOWN).tolist():
            key, metric = (int(ids[at]), int(checks[at])), metrics[at]
            fresh[at] = False
            if status[at] == CONTESTED or key[0] == taken:
                refused[key] = Reason.ID_COLLISION
            elif counts[metric] >= limits.of(metric).series or total >= limits.series:
                refused[key] = Reason.CARDINALITY_LIMIT
            else:
                counts[metric] += 1
                total += 1
                fresh[at] = True
                taken = key[0]
        return wanted.filter(pa.array(fresh)), refused

    def _all_may(
        self, ids: Ids, wanted: pa.Table, fresh: npt.NDArray[np.bool_], limits: Limits
    ) -> bool:
        """Whether all that are fresh may be registered: no two have one id, and there is room."""
        if (ids[1:] == ids[:-1]).any() or self.series_of.total() + len(ids) > limits.series:
            return False
        added = _counts(wanted.column("metric").filter(pa.array(fresh)))
        return all(
            self.series_of[metric] + number <= limits.of(metric).series
            for metric, number in added.items()
        )


def _counts(metrics: pa.ChunkedArray) -> Counter[str]:
    return Counter({c["values"]: c["counts"] for c in metrics.value_counts().to_pylist()})


def _first_of_each(rows: pa.Table) -> pa.Table:
    """The row of each series that has its earliest sample, sorted by id and check."""
    ids, checks, times = (
        rows.column(name).to_numpy() for name in ("series_id", "check", "first_seen")
    )
    order = np.lexsort((times, checks, ids))
    ids, checks = ids[order], checks[order]
    begins = np.append(True, (ids[1:] != ids[:-1]) | (checks[1:] != checks[:-1]))
    return rows.take(pa.array(order[begins[: len(ids)]]))


def _back_off(attempt: int) -> None:
    """Waits longer with each attempt, by chance: so a driver on a slow machine wins in the end."""
    if attempt:
        time.sleep(random.uniform(0, min(_FIRST_WAIT_S * 2.0**attempt, _LONGEST_WAIT_S)))  # noqa: S311
