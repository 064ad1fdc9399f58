"""Which times of a table's rows commits touched, for whoever keeps what was computed of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from varve.storage.log import LiveFile, LogEntry

Span = tuple[int, int]
"""First and last time, Unix ms, both inclusive."""

_MOST: Final = 4_096


@dataclass(frozen=True, slots=True)
class Changes:
    """The spans that commits later than version `since` to a table added to or took rows from."""

    since: int
    versions: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()

    def after(self, version: int) -> Sequence[Span] | None:
        """What changed after a version; None if that is not known any more."""
        if version < self.since:
            return None
        return self.spans[bisect_right(self.versions, version) :]

    def extended(
        self,
        commits: Iterable[tuple[LogEntry, Sequence[LiveFile]]],
        time: str = "ts",
        width_ms: int = 1,
    ) -> Changes:
        """With further commits, each with the files that it removed. Only the last are kept. A row
        is about width_ms of time, up to what its column `time` says.
        """
        versions, spans, since = [*self.versions], [*self.spans], self.since
        for entry, removed in commits:
            for file in (*entry.adds, *(removed if entry.loses_rows else ())):
                versions.append(entry.version)
                spans.append((file.minimum[time] - width_ms + 1, file.maximum[time]))
        if len(versions) > _MOST:
            since = versions[-_MOST - 1]
            first = bisect_right(versions, since)
            versions, spans = versions[first:], spans[first:]
        return Changes(since, tuple(versions), tuple(spans))
