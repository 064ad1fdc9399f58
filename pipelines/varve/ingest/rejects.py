"""What a task refuses, on its way to quarantine: whole up to a bound, a count beyond it.

A storm of rejects must not become a storm of writes, nor of memory: beyond the bytes that are kept
of a partition in a batch, a reason has one row, with the number and the offsets to read again.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from varve.ingest.decoded import Reject
from varve.ingest.reject_reasons import Reason
from varve.model.schema import table_schema
from varve.storage.files import NewFile, write_file
from varve.storage.store import Store

# Bytes that a row takes beside its value, about.
_ROW_BYTES = 200
_DETAIL_CHARACTERS = 500
# A reject over this part of what is kept of a partition takes nothing from the smaller ones, which
# one long message would crowd out: such have as much again for themselves.
_LARGE_PART = 8


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message. ts: ms since the epoch. encoding: its header content-encoding."""

    topic: str
    partition: int
    offset: int
    ts: int
    value: bytes | None
    encoding: str | None = None


@dataclass(slots=True)
class _Rest:
    """Rejects of one partition and reason that are not kept; offsets inclusive."""

    first: Message
    detail: str
    last_offset: int
    samples: int = 0


class Rejects:
    """Those of one task. `held_bytes`: what the rows take that have not been written yet."""

    def __init__(self, keep_bytes: int) -> None:
        """keep_bytes: kept of each partition, of large rejects and of all others."""
        self.held_bytes = 0
        self._keep_bytes = keep_bytes
        self._kept: dict[tuple[str, int, bool], int] = {}
        self._rows: list[tuple[Message, Reject]] = []
        self._rest: dict[tuple[str, int, Reason], _Rest] = {}

    def full(self, message: Message) -> bool:
        """Whether no more is kept of the message's partition, but for large ones."""
        return self._kept.get((message.topic, message.partition, False), 0) >= self._keep_bytes

    def add(self, message: Message, reject: Reject) -> None:
        """Keeps it, or counts it where the partition is full. A single one is never too large."""
        size = len(reject.value) + _ROW_BYTES
        is_large = len(reject.value) * _LARGE_PART > self._keep_bytes
        share = message.topic, message.partition, is_large
        kept = self._kept.get(share, 0)
        if kept >= self._keep_bytes:
            self.count(message, reject.reason, reject.detail, reject.samples)
            return
        self._kept[share] = kept + size
        self.held_bytes += size
        self._rows.append((message, reject))

    def count(self, message: Message, reason: Reason, detail: str, samples: int) -> None:
        key = message.topic, message.partition, reason
        rest = self._rest.setdefault(key, _Rest(message, detail, message.offset))
        rest.last_offset = max(rest.last_offset, message.offset)
        rest.samples += samples

    def write(self, store: Store, query: str, now_ms: int, *, last: bool) -> list[NewFile]:
        """Writes what is held, and forgets it; with the counts if it is the task's last time."""
        rows = [
            _row(message, reject.reason, reject.detail, reject.samples, reject.value)
            for message, reject in self._rows
        ]
        if last:
            rows += [self._row_of_rest(reason, rest) for (_, _, reason), rest in self._rest.items()]
            self._rest = {}
        self._rows, self.held_bytes = [], 0
        if not rows:
            return []
        common = {"query": query, "rejected_at": now_ms}
        schema = table_schema("quarantine").arrow
        table = pa.Table.from_pylist([row | common for row in rows], schema=schema)
        return [write_file(store, "quarantine", table)]

    def _row_of_rest(self, reason: Reason, rest: _Rest) -> dict[str, object]:
        detail = (
            f"in offsets {rest.first.offset} to {rest.last_offset}, counted only: over the"
            f" {self._keep_bytes} bytes kept of a partition and batch; the first: {rest.detail}"
        )
        return _row(rest.first, reason, detail, rest.samples, None)


def _row(
    message: Message, reason: Reason, detail: str, samples: int, value: bytes | None
) -> dict[str, object]:
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "ts": message.ts,
        "reason": reason.value,
        "detail": detail[:_DETAIL_CHARACTERS],
        "samples": samples,
        "value": value,
    }
