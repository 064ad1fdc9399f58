"""The head: the samples of the newest files in memory, as sorted columns in slots of time.

A batch every few seconds leaves thousands of files. They are read once, as they come, and merged
like a log-structured tree, slot by slot. A slot is an aligned span of time, halved while what is in
it takes more than a quarter of the bound, and dropped whole: the oldest first.

A (series_id, ts) is one sample, so rows that are read twice do no harm. What must not happen is
that a row is kept which no live file has, or missed in a file that counts as held:

- A slot has rows only of files that overlap it. Where rows disappear from the table, the slots that
  the removed files overlap are dropped.
- A file is held if all its rows are in slots. A slot that is dropped takes all files that overlap
  it with it; what of them lies in other slots stays.
- Files that replace held ones by the same rows, as compaction does, are held without being read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from varve.model.window import HOUR_MS, floor_to
from varve.query.memory import HEAD, UNBOUNDED, MemoryBudget
from varve.query.sample_columns import BYTES_PER_SAMPLE, SampleColumns, merge
from varve.storage.log import LiveFile

WIDEST_MS: Final = 2 * HOUR_MS
_NARROWEST_MS: Final = WIDEST_MS >> 8
_SHARE: Final = 4

Slot = tuple[int, int]
"""[start, start + width), Unix ms."""


@dataclass(slots=True)
class _Rows:
    """Sorted runs of one slot, the larger first."""

    runs: list[SampleColumns] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.runs)

    def add(self, run: SampleColumns) -> None:
        """Adds a run, and merges runs of like size: no row is copied more than log n times."""
        self.runs.append(run)
        while len(self.runs) > 1 and self.runs[-2].rows <= 2 * self.runs[-1].rows:
            last = self.runs.pop()
            self.runs[-1] = merge([self.runs[-1], last])


class Head:
    """The newest samples within a bound of bytes. Not safe to share between threads; the sorted
    runs are.
    """

    def __init__(
        self,
        read_files: Callable[[list[str]], list[SampleColumns]],
        max_bytes: int,
        budget: MemoryBudget | None = None,
        keep_ms: int | None = None,
    ) -> None:
        """read_files returns all rows of each of some files, or those of the series that are to be
        held. Slots are dropped, too, that end keep_ms before the newest sample.
        """
        self._read_files = read_files
        self._max_bytes = max_bytes
        self._keep_ms = keep_ms
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._counted = 0
        self._files: dict[str, LiveFile] = {}
        self._slots: dict[Slot, _Rows] = {}
        self._halved: set[Slot] = set()
        self._widths: dict[int, int] = {}
        """By the start of a widest slot, how wide its slots are before any is halved."""
        self.begin_ms: int | None = None
        """What is older is not kept; None while all is."""

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self._slots.values())

    @property
    def paths(self) -> Collection[str]:
        """The files that are held."""
        return self._files.keys()

    def sorted_runs(self) -> list[SampleColumns]:
        """What is held now, the oldest first. The runs never change; the list is the caller's."""
        return [run for _, rows in sorted(self._slots.items()) for run in rows.runs]

    def accepts(self, file: LiveFile) -> bool:
        """Whether all of a file would be kept, and most of the bound is left for others."""
        is_new = self.begin_ms is None or file.minimum["ts"] >= self.begin_ms
        return is_new and file.rows * BYTES_PER_SAMPLE <= self._max_bytes // 2

    def add(self, files: Iterable[LiveFile]) -> None:
        """Reads the files, those that are accepted, and merges them in.

        Raises OSError if a file cannot be read; then none is added.
        """
        fresh = [file for file in files if self.accepts(file) and file.path not in self._files]
        columns = self._read_files([file.path for file in fresh])
        for file in fresh:
            self._files[file.path] = file
        touched: dict[Slot, list[SampleColumns]] = {}
        for part in columns:
            for slot, rows in self._parts(part):
                touched.setdefault(slot, []).append(rows)
        newest = max(self._slots, default=None)
        for slot, parts in touched.items():
            self._slots.setdefault(slot, _Rows()).add(merge(parts))
            self._halve(slot)
        if newest in self._slots and newest != max(self._slots):
            # From now on few samples come to this one: queries find them in one run.
            self._slots[newest].runs = [merge(self._slots[newest].runs)]
        self._evict()
        self._count()

    def replace(
        self, removed: Iterable[LiveFile], added: Iterable[LiveFile], *, same_rows: bool
    ) -> None:
        """Takes notice of a commit that removed files. same_rows: all their rows are in `added`."""
        removed = list(removed)
        are_held = all(file.path in self._files for file in removed)
        for file in removed:
            self._files.pop(file.path, None)
        if not same_rows:
            for file in removed:
                self._drop(file.minimum["ts"], file.maximum["ts"])
        elif are_held and removed:
            self._files.update((file.path, file) for file in added)
        self._count()

    def clear(self) -> None:
        """Holds nothing any more."""
        self._files, self._slots = {}, {}
        self._count()

    def _leaf(self, ts: int) -> Slot:
        """The slot that a time is in."""
        root = floor_to(ts, WIDEST_MS)
        if root not in self._widths:
            newest = max(self._slots, default=(0, WIDEST_MS))
            self._widths[root] = newest[1]
        width = self._widths[root]
        start = floor_to(ts, width)
        while (start, width) in self._halved:
            width //= 2
            start = floor_to(ts, width)
        return start, width

    def _parts(self, part: SampleColumns) -> Iterator[tuple[Slot, SampleColumns]]:
        """The rows of a part by slot, of those that are not too old."""
        at = part.first_ms if self.begin_ms is None else max(part.first_ms, self.begin_ms)
        while part.rows and at <= part.last_ms:
            start, width = self._leaf(at)
            rows = part.between(start, start + width)
            if rows.rows:
                yield (start, width), rows
            at = start + width
            if not rows.rows and len(part.ts):  # times far apart: go on at the next there is
                later = part.ts[part.ts >= at]
                at = int(later.min()) if len(later) else part.last_ms + 1

    def _halve(self, slot: Slot) -> None:
        """Halves a slot while it takes too much."""
        rows, (start, width) = self._slots[slot], slot
        if rows.nbytes <= self._max_bytes // _SHARE or width <= _NARROWEST_MS:
            return
        del self._slots[slot]
        self._halved.add(slot)
        half = width // 2
        whole = merge(rows.runs)
        for begin in (start, start + half):
            part = whole.between(begin, begin + half)
            if part.rows:
                self._slots[begin, half] = _Rows([part])
                self._halve((begin, half))

    def _drop(self, first_ms: int, last_ms: int) -> None:
        """Drops the slots that overlap a span, and counts no file as held that overlaps these."""
        gone = [s for s in self._slots if s[0] <= last_ms and s[0] + s[1] > first_ms]
        for slot in gone:
            del self._slots[slot]
        self._forget(gone)

    def _forget(self, slots: Sequence[Slot]) -> None:
        for start, width in slots:
            lost = [
                path
                for path, file in self._files.items()
                if file.minimum["ts"] < start + width and file.maximum["ts"] >= start
            ]
            for path in lost:
                del self._files[path]

    def _evict(self) -> None:
        """Drops the oldest slots past the bound, at last even the newest."""
        nbytes = self.nbytes
        if self._keep_ms is not None and self._slots:
            newest_ms = max(run.last_ms for run in self._slots[max(self._slots)].runs)
            self.begin_ms = max(newest_ms - self._keep_ms, self.begin_ms or 0)
        while self._slots and (nbytes > self._max_bytes or not self._is_kept(min(self._slots))):
            oldest = min(self._slots)
            nbytes -= self._slots.pop(oldest).nbytes
            self._forget([oldest])
            self.begin_ms = max(sum(oldest), self.begin_ms or sum(oldest))
        self._halved = {slot for slot in self._halved if self._is_kept(slot)}
        self._widths = {
            root: width for root, width in self._widths.items() if self._is_kept((root, WIDEST_MS))
        }

    def _is_kept(self, slot: Slot) -> bool:
        return self.begin_ms is None or sum(slot) > self.begin_ms

    def _count(self) -> None:
        self._budget.add(HEAD, self.nbytes - self._counted)
        self._counted = self.nbytes
