"""Series that have samples in quarantine and wait for their definition, and where those lie.

A series may wait for ever, and its samples fill file after file. So for every file of quarantine it
is remembered which series it waits for: when the definition of one comes, only files that hold
samples of it are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from varve.ingest.decoder import Decoder
from varve.ingest.mapped_runs import UNKNOWN
from varve.ingest.outcome import NAMED_UNDEFINED, Outcome
from varve.ingest.plan import TaskPlan
from varve.ingest.quarantine_replay import Selection, replay, series_ids_in
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.ingest.series_registry import SeriesRegistry
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

Ids = frozenset[int]


class AwaitedSeries:
    """The awaited series of one query. Replays their samples once the definition has come."""

    def __init__(self, store: Store, query: str) -> None:
        """Reads which series the quarantine waits for."""
        self._store, self._query = store, query
        self._files: dict[str, Ids] = {}
        """The series that each known file waits for, by its path. Equal sets are one object."""
        self._ids: set[int] = set()
        """All of them, without those whose samples were replayed already."""
        self._replayed: set[int] = set()
        self._looked_at = -1
        self._read_files()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Notes the series without a definition that the committed files of a batch hold."""
        sets = {ids: ids for ids in self._files.values()} if outcomes else {}
        for outcome in outcomes:
            ids = frozenset(series_id for series_id, _ in outcome.undefined)
            # If more are not named, the files are read when the first of them is defined.
            if len(outcome.undefined) < NAMED_UNDEFINED:
                for file in outcome.quarantine:
                    # A series that waits for ever is in file after file, with the same others.
                    self._files[file.path] = sets.setdefault(ids, ids)
            self._ids |= ids
            self._replayed -= ids

    def defined(self, registry: SeriesRegistry) -> bool:
        """Whether the definition of one of them has come since this was asked last."""
        if not self._ids or registry.index.version == self._looked_at:
            return False
        self._looked_at = registry.index.version
        return bool(self._known(registry))

    def replay(self, plan: TaskPlan, registry: SeriesRegistry) -> Replayed:
        """Stores the samples whose definition has come. Reads the files alone that hold some."""
        total, done = Replayed(), set[str]()
        # A file that somebody rewrites meanwhile has another name, and is found in the next round.
        while True:
            self._read_files()
            known = self._known(registry)
            wanted = {
                path
                for path, ids in self._files.items()
                if path not in done and not known.isdisjoint(ids)
            }
            if not wanted:
                break
            selection = Selection(frozenset({Reason.UNKNOWN_SERIES}), paths=frozenset(wanted))
            total.add(replay(selection, plan, registry))
            done |= wanted
        # What is refused for another reason now is not tried again at every registration.
        self._replayed |= known
        self._ids -= known
        log.info("replay of %s", Reason.UNKNOWN_SERIES.value, extra={"fields": total.as_json()})
        return total

    def _known(self, registry: SeriesRegistry) -> Ids:
        """The awaited series whose definition has come, or whose id another series has taken."""
        ids = np.fromiter(self._ids, np.int64, len(self._ids))
        status = registry.index.status(ids, np.zeros(len(ids), np.int32))
        return frozenset(ids[status != UNKNOWN].tolist())

    def _read_files(self) -> None:
        """Learns what is in files that have come since, and forgets files that have gone."""
        table = Table(self._store, "quarantine", files=True)
        live = live_files(table)
        snapshot = Snapshot(self._store, "quarantine", table.version, tuple(live))
        sets = {ids: ids for ids in self._files.values()}
        decoder, files = Decoder(), {}
        for file in live:
            ids = self._files.get(file.path)
            if ids is None:
                ids = _awaited_in(snapshot, file, self._query, decoder)
            files[file.path] = sets.setdefault(ids, ids)
        self._files = files
        self._ids = set().union(*set(files.values())) - self._replayed


def _awaited_in(snapshot: Snapshot, file: LiveFile, query: str, decoder: Decoder) -> Ids:
    """The series that a file of quarantine waits for."""
    chosen = (pc.field("reason") == Reason.UNKNOWN_SERIES.value) & (pc.field("query") == query)
    columns = ["query", "reason", "series_ids"]
    rows = snapshot.scan(Bounds(), columns, [file]).filter(chosen)
    if rows["series_ids"].null_count:
        # Rows of earlier releases, and rows that are a number only, do not name them.
        rows = snapshot.scan(Bounds(), [*columns, "value"], [file]).filter(chosen)
        found = [
            row["series_ids"] or series_ids_in(row["value"], decoder) for row in rows.to_pylist()
        ]
    else:
        found = rows["series_ids"].to_pylist()
    return frozenset(series_id for ids in found for series_id in ids)
