"""Writes what a task refuses to quarantine: whole up to a bound, as a count beyond it.

A storm of rejects must not become a storm of writes, nor of memory: beyond the bytes that are kept
of a partition in a batch, a reason has one row, with the number and the offsets to read again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from varve.ingest.decoded import Reject
from varve.kafka.message import Message
from varve.model.exceeded import Exceeded
from varve.model.schema import table_schema
from varve.storage.files import NewFile, fingerprint, write_file
from varve.storage.store import Store

# Bytes that a row takes beside its value, roughly.
_ROW_BYTES = 200
_DETAIL_CHARACTERS = 500
# Rows of counts that a task writes before those of further metrics share one.
_COUNTED_ROWS = 100
# Rejects over this part of what is kept of a partition have as much again for themselves: one long
# message must not crowd out the short ones.
_LARGE_PART = 8


@dataclass(slots=True)
class _CountedOnly:
    """Rejects of one partition, reason, metric and limit that are not kept, from the message
    `first` on. together: what is known of all of them, with the detail of the first.
    """

    first: Message
    together: Reject

    def add(self, reject: Reject) -> None:
        ours, theirs = self.together, reject
        times = [time for each in (ours, theirs) if each.times for time in each.times]
        self.together = replace(
            ours,
            samples=ours.samples + theirs.samples,
            last_offset=max(ours.last_offset or 0, theirs.last_offset or 0),
            exceeded=_further(ours.exceeded, theirs.exceeded),
            times=(min(times), max(times)) if times else None,
        )


class QuarantineWriter:
    """Gathers the rejects of one task and writes them as files of quarantine."""

    def __init__(self, keep_bytes: int | None) -> None:
        """keep_bytes: how much is kept of each partition, once of large rejects and once of all
        others; None: everything.
        """
        self.held_bytes = 0
        """Size of the rows that have not been written yet."""
        self._keep_bytes = sys.maxsize if keep_bytes is None else keep_bytes
        self._kept: dict[tuple[str, int, bool], int] = {}
        self._rows: list[tuple[Message, Reject]] = []
        self._counted: dict[tuple[object, ...], _CountedOnly] = {}

    def full(self, message: Message) -> bool:
        """Whether no more small rejects of the message's partition are kept."""
        return self._kept.get((message.topic, message.partition, False), 0) >= self._keep_bytes

    def add(self, message: Message, reject: Reject) -> None:
        """Keeps a reject, or counts it if its partition is full. The first is never too large."""
        size = len(reject.value) + _ROW_BYTES
        is_large = len(reject.value) * _LARGE_PART > self._keep_bytes
        share = message.topic, message.partition, is_large
        kept = self._kept.get(share, 0)
        if kept >= self._keep_bytes:
            self._count(message, reject)
            return
        self._kept[share] = kept + size
        self.held_bytes += size
        self._rows.append((message, reject))

    def write(self, store: Store, query: str, now_ms: int, *, last: bool) -> list[NewFile]:
        """Writes what is held, and forgets it. last: whether the counts are written, too."""
        rows = [_row(message, reject) for message, reject in self._rows]
        if last:
            rows += [self._counted_row(counted) for counted in self._counted.values()]
            self._counted = {}
        self._rows, self.held_bytes = [], 0
        if not rows:
            return []
        common = {"query": query, "rejected_at": now_ms}
        schema = table_schema("quarantine").arrow
        table = pa.Table.from_pylist([row | common for row in rows], schema=schema)
        return [write_file(store, "quarantine", table)]

    def _count(self, message: Message, reject: Reject) -> None:
        exceeded = reject.exceeded
        limit = exceeded and (exceeded.limit, exceeded.allowed)
        key = message.topic, message.partition, reject.reason, reject.metric, limit
        if reject.last_offset is None:
            reject = replace(reject, last_offset=message.offset)
        if (counted := self._counted.get(key)) is not None:
            counted.add(reject)
            return
        if len(self._counted) >= _COUNTED_ROWS and reject.metric is not None:
            self._count(message, replace(reject, metric=None))
            return
        self._counted[key] = _CountedOnly(message, replace(reject, value=b"", headers=()))

    def _counted_row(self, counted: _CountedOnly) -> dict[str, object]:
        first, together = counted.first, counted.together
        detail = (
            f"in offsets {first.offset} to {together.last_offset}, counted only: over the"
            f" {self._keep_bytes} bytes kept of a partition and batch; the first: {together.detail}"
        )
        return _row(first, replace(together, detail=detail, series_ids=())) | {"value": None}


def noted_files(notes: Iterable[Mapping[str, Any]]) -> list[NewFile]:
    """Files of quarantine from the notes (asdict) in the metadata of a commit of samples. They may
    be of an earlier release, without columns that the table has gained: those are NULL in them.
    """
    schema = fingerprint(table_schema("quarantine"))
    return [replace(NewFile(**note), schema=schema) for note in notes]


def _further(one: Exceeded | None, other: Exceeded | None) -> Exceeded | None:
    """The one of two excesses of a limit that is known to be further beyond it."""
    if one is None or other is None:
        return one or other
    if one.found is None or other.found is None:
        return other if one.found is None else one
    return one if one.found >= other.found else other


def _row(message: Message, reject: Reject) -> dict[str, object]:
    headers = [{"name": name, "value": value} for name, value in reject.headers]
    last, exceeded = reject.last_offset, reject.exceeded
    oldest, newest = reject.times or (None, None)
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "ts": message.ts,
        "reason": reject.reason.value,
        "detail": reject.detail[:_DETAIL_CHARACTERS],
        "samples": reject.samples,
        "value": reject.value,
        "headers": headers,
        "series_ids": reject.series_ids or None,
        "last_offset": message.offset if last is None else last,
        "metric": reject.metric,
        "limit_name": exceeded and exceeded.limit,
        "allowed": exceeded and exceeded.allowed,
        "found": exceeded and exceeded.found,
        "oldest_ts": oldest,
        "newest_ts": newest,
    }
