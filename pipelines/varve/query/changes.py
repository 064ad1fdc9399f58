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
    """The spans that commits later than version `since` to a table added to or took rows from.

    newest: the last version that was told of; `since` if that is None.
    """

    since: int
    versions: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    newest: int | None = None

    def after(self, version: int) -> Sequence[Span] | None:
        """What changed after a version; None if that is not known any more."""
        if version < self.since:
            return None
        return self.spans[bisect_right(self.versions, version) :]

    def extended(
        self,
        commits: Iterable[tuple[LogEntry, Sequence[LiveFile] | None]],
        time: str = "ts",
        width_ms: int = 1,
    ) -> Changes:
        """With further commits, each with the files that it removed, None if they are not known.
        Only the last are kept. A row is about width_ms of time, up to what its column `time` says.

        What colder roots lose is told under a version that was there before: nothing is known of
        what was computed from that one, then.
        """
        seen = self.since if self.newest is None else self.newest
        versions, spans, since, newest = [*self.versions], [*self.spans], self.since, seen
        for entry, removed in commits:
            newest = max(newest, entry.version)
            if entry.loses_rows and (removed is None or entry.version <= seen):
                since = max(since, entry.version + (1 if entry.version <= seen else 0))
                versions, spans = [], []
                continue
            for file in (*entry.adds, *((removed or ()) if entry.loses_rows else ())):
                versions.append(entry.version)
                spans.append((file.minimum[time] - width_ms + 1, file.maximum[time]))
        if len(versions) > _MOST:
            since = max(since, versions[-_MOST - 1])
            first = bisect_right(versions, since)
            versions, spans = versions[first:], spans[first:]
        return Changes(since, tuple(versions), tuple(spans), newest)
