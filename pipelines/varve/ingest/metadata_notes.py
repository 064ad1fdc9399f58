"""Writes the table metric_metadata: what senders say of metrics apart from their series.

Remote write 1.0 says type, unit and help once a minute, in requests without series: most series are
registered before. So it is kept by the name of the metric, and joined where it is read. What was
said first stays; fields of which nothing was known are filled. It is committed before the samples
of its batch, so a batch that is read again after a crash finds it noted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from varve.model.clock import Clock
from varve.model.errors import Conflict, TemporaryError
from varve.model.metadata import NOTHING_KNOWN, Metadata, metadata_of
from varve.model.schema import table_schema
from varve.storage import positions
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.metric_metadata import TABLE, MetricMetadata
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

_ATTEMPTS = 20
# Files from which all of them are merged into one, with a row for each metric.
_MOST_FILES = 16
# Metrics whose metadata is kept: a sender that makes up names must not fill memory and disk.
MOST_METRICS = 500_000

log = logging.getLogger(__name__)


class MetadataNotes:
    """What the table says, and its writer; several drivers may write at once. Not safe to share
    between threads.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._table = MetricMetadata(store)

    def note(self, said: Mapping[str, Metadata]) -> None:
        """Makes durable what adds something to what is known. Raises TemporaryError if rivals
        wrote first in every attempt.
        """
        if not self._news(said):
            return
        create_tables(self._store, (TABLE,))
        for _ in range(_ATTEMPTS):
            table = Table(self._store, TABLE)
            self._table.look()
            if not (news := self._news(said)):
                return
            try:
                commit(table, [self._file(news)], transactions=_turn(table))
            except Conflict:
                continue
            self._table.look()
            if len(self._table.files) > _MOST_FILES:
                self._merge_files(table)
            return
        raise TemporaryError(f"{_ATTEMPTS} attempts to note metadata met a rival's commit")

    def look(self) -> None:
        """Learns what other drivers have noted."""
        self._table.look()

    def described(self, metric: str, own: Metadata) -> Metadata:
        """What a series says of itself, with what is known of its metric where that is nothing."""
        found = own.filled_by(metadata_of(metric, self._table.known))
        return replace(found, type="histogram") if found.type == "gaugehistogram" else found

    def _news(self, said: Mapping[str, Metadata]) -> dict[str, Metadata]:
        """What adds something to what is known, by metric, with what was known."""
        news: dict[str, Metadata] = {}
        dropped = 0
        for metric, one in said.items():
            known = self._table.known.get(metric)
            if known is None and len(self._table.known) + len(news) >= MOST_METRICS:
                dropped += 1
                continue
            filled = (known or NOTHING_KNOWN).filled_by(one)
            if filled != (known or NOTHING_KNOWN):
                news[metric] = filled
        if dropped:
            log.warning(
                "%d metrics have metadata: that of %d more is dropped",
                MOST_METRICS,
                dropped,
            )
        return news

    def _file(self, said: Mapping[str, Metadata]) -> NewFile:
        """A file of rows that are newer than all others, whatever the clock says."""
        columns = {
            "metric": list(said),
            "type": [one.type for one in said.values()],
            "unit": [one.unit for one in said.values()],
            "help": [one.help for one in said.values()],
            "noted_at": [max(self._clock.now_ms(), self._table.newest_ms + 1)] * len(said),
        }
        rows = pa.Table.from_pydict(columns, schema=table_schema(TABLE).arrow)
        return write_file(self._store, TABLE, rows)

    def _merge_files(self, table: Table) -> None:
        """Replaces the files by one. Where a rival has written since, it is left to the next."""
        removals = [Removal(f.path, f.size, rows_disappear=True) for f in self._table.files]
        with contextlib.suppress(Conflict):
            added = [self._file(self._table.known)]
            rewrite(table, added, removals, transactions=_turn(table))


def _turn(table: Table) -> dict[str, Step]:
    """What every commit moves, so that of rivals one notices the other."""
    turn = positions.turn(TABLE)
    held = table.position(turn)
    return {turn: Step(held, 0 if held is None else held + 1)}
