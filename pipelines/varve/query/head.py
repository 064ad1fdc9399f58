"""The head: samples of the newest small files, merged in memory hour by hour.

A batch every few seconds leaves thousands of small files an hour until they are compacted.
Opening them for each query would cost more than the query: they are read once, as they come,
and merged like a log-structured tree, by the hour that a file ends in, since compaction replaces
the files of whole hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from varve.model.window import HOUR_MS
from varve.query.memory import HEAD, UNBOUNDED, MemoryBudget
from varve.query.sample_columns import SampleColumns, merge
from varve.storage.log import LiveFile

MAX_ROWS = 65_536
"""Rows of a file that counts as small."""


@dataclass(slots=True)
class _Hour:
    """Sorted runs of one hour, the larger first, and the files that they come from."""

    sorted_runs: list[SampleColumns] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.sorted_runs)


class Head:
    """The newest hours of small files, within a bound of bytes.

    An hour is held whole or not at all: its sorted runs have exactly the samples of the files in
    its `paths`. Not safe to share between threads; the sorted runs are.
    """

    def __init__(
        self,
        read_files: Callable[[list[str]], list[SampleColumns]],
        max_bytes: int,
        budget: MemoryBudget | None = None,
    ) -> None:
        """read_files returns all rows of each of some files."""
        self._read_files = read_files
        self._max_bytes = max_bytes
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._counted = 0
        self._hours: dict[int, _Hour] = {}

    @property
    def nbytes(self) -> int:
        return sum(hour.nbytes for hour in self._hours.values())

    def sorted_runs(self) -> list[SampleColumns]:
        """What is held now. The runs never change; the list is the caller's."""
        return [run for hour in self._hours.values() for run in hour.sorted_runs]

    def add(self, files: Iterable[LiveFile]) -> set[str]:
        """Reads the files and merges them in.

        Returns the paths of files that are not held: their hours were too old for the bound.
        Raises OSError if a file cannot be read; then none is added.
        """
        by_hour: dict[int, list[str]] = {}
        for file in files:
            by_hour.setdefault(_hour_of(file), []).append(file.path)
        fresh = {hour: self._read_files(paths) for hour, paths in by_hour.items()}
        for key, parts in fresh.items():
            hour = self._hours.setdefault(key, _Hour())
            hour.paths.update(by_hour[key])
            hour.sorted_runs.append(merge(parts))
            self._compact(key)
        dropped = self._evict()
        self._count()
        return dropped

    def remove(self, paths: Iterable[str]) -> set[str]:
        """Drops the hours of the files. Returns the other files of these hours, no longer held."""
        gone = set(paths)
        hit = [key for key, hour in self._hours.items() if hour.paths & gone]
        dropped: set[str] = set()
        for key in hit:
            dropped |= self._hours.pop(key).paths
        self._count()
        return dropped - gone

    def _compact(self, key: int) -> None:
        """Merges all runs of every hour but the newest, and runs of like size in hour `key`."""
        newest = max(self._hours)
        for other, hour in self._hours.items():
            if other != newest and len(hour.sorted_runs) > 1:
                hour.sorted_runs = [merge(hour.sorted_runs)]
        runs = self._hours[key].sorted_runs
        while len(runs) > 1 and runs[-2].rows <= 2 * runs[-1].rows:
            last = runs.pop()
            runs[-1] = merge([runs[-1], last])

    def _evict(self) -> set[str]:
        """Drops the oldest hours past the bound, at last even the newest. Returns their files.

        An hour that is over the bound begins again with the files that come next.
        """
        dropped: set[str] = set()
        while self._hours and self.nbytes > self._max_bytes:
            dropped |= self._hours.pop(min(self._hours)).paths
        return dropped

    def _count(self) -> None:
        self._budget.add(HEAD, self.nbytes - self._counted)
        self._counted = self.nbytes


def _hour_of(file: LiveFile) -> int:
    return file.maximum["ts"] // HOUR_MS
