"""Small files of samples, merged in memory hour by hour.

A batch every few seconds leaves thousands of small files an hour until they are compacted.
Opening them for each query would cost more than the query: they are read once, as they come,
and merged like a log-structured tree, by the hour that a file ends in, since compaction replaces
the files of whole hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from varve.model.window import HOUR_MS
from varve.query.sample_columns import Block, merge
from varve.storage.log import LiveFile

MAX_ROWS = 65_536
"""Rows of a file that counts as small."""


@dataclass(slots=True)
class _Hour:
    """Blocks of one hour, the larger first, and the files they come from."""

    blocks: list[Block] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self.blocks)


class RecentFiles:
    """The newest hours of small files, within a bound of bytes. For one thread."""

    def __init__(self, read: Callable[[list[str]], list[Block]], max_bytes: int) -> None:
        """read: all rows of each of some files."""
        self._read = read
        self._max_bytes = max_bytes
        self._hours: dict[int, _Hour] = {}

    @property
    def nbytes(self) -> int:
        return sum(hour.nbytes for hour in self._hours.values())

    def blocks(self) -> list[Block]:
        """What is held now. Blocks never change, the list is the caller's."""
        return [block for hour in self._hours.values() for block in hour.blocks]

    def add(self, files: Iterable[LiveFile]) -> set[str]:
        """Reads the files and merges them in; returns what is not held: too old for the bound.

        OSError if a file cannot be read; then none is added.
        """
        by_hour: dict[int, list[str]] = {}
        for file in files:
            by_hour.setdefault(_hour_of(file), []).append(file.path)
        fresh = {hour: self._read(paths) for hour, paths in by_hour.items()}
        for key, blocks in fresh.items():
            hour = self._hours.setdefault(key, _Hour())
            hour.paths.update(by_hour[key])
            hour.blocks.append(merge(blocks))
            self._settle(key)
        return self._shrink()

    def remove(self, paths: Iterable[str]) -> set[str]:
        """Forgets the hours of the files; returns those hours' other files, no longer held."""
        gone = set(paths)
        hit = [key for key, hour in self._hours.items() if hour.paths & gone]
        dropped: set[str] = set()
        for key in hit:
            dropped |= self._hours.pop(key).paths
        return dropped - gone

    def _settle(self, key: int) -> None:
        """Merges blocks of like size in the newest hour, and all of any other."""
        newest = max(self._hours)
        for other, hour in self._hours.items():
            if other != newest and len(hour.blocks) > 1:
                hour.blocks = [merge(hour.blocks)]
        blocks = self._hours[key].blocks
        while len(blocks) > 1 and blocks[-2].rows <= 2 * blocks[-1].rows:
            last = blocks.pop()
            blocks[-1] = merge([blocks[-1], last])

    def _shrink(self) -> set[str]:
        """Drops the oldest hours past the bound, never the newest."""
        dropped: set[str] = set()
        while self.nbytes > self._max_bytes and len(self._hours) > 1:
            dropped |= self._hours.pop(min(self._hours)).paths
        return dropped


def _hour_of(file: LiveFile) -> int:
    return file.maximum["ts"] // HOUR_MS
