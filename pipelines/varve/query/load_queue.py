"""Which small files are read into the head next, and when those that failed are tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from varve.storage.log import LiveFile

# A file that failed alone waits this long at first, and twice as long each further time.
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


@dataclass(slots=True)
class _Failure:
    """`wait_s` is how long the file waits after its last failure, until `due_s` (monotonic)."""

    wait_s: float
    due_s: float


class LoadQueue:
    """Files that wait to be read, the newest first. Not safe to share between threads.

    Files of a failed read are tried again one by one, and one that fails alone after a wait. So a
    file that cannot be read keeps no other out of memory.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: list[LiveFile] = []
        """Files that never failed, in ascending order of their last sample."""
        self._failed: dict[str, tuple[LiveFile, _Failure]] = {}

    @property
    def is_due(self) -> bool:
        """Whether `take` would return a file now."""
        return bool(self._waiting) or self._first_due() is not None

    def put(self, files: Iterable[LiveFile]) -> None:
        self._waiting.extend(files)
        self._waiting.sort(key=lambda file: file.maximum["ts"])

    def keep(self, paths: Collection[str]) -> None:
        """Forgets all other files."""
        self._waiting = [file for file in self._waiting if file.path in paths]
        self._failed = {path: held for path, held in self._failed.items() if path in paths}

    def drop_older(self, than_ms: int) -> None:
        """Forgets the files that have samples before than_ms."""
        known = [*self._waiting, *(file for file, _ in self._failed.values())]
        self.keep({file.path for file in known if file.minimum["ts"] >= than_ms})

    def take(self, most_files: int, most_rows: int) -> list[LiveFile]:
        """Removes and returns the newest files, or else one that failed and is due again.

        They are at most most_files, and the last one takes them to most_rows or beyond.
        """
        batch: list[LiveFile] = []
        rows = 0
        while self._waiting and len(batch) < most_files and rows < most_rows:
            batch.append(self._waiting.pop())
            rows += batch[-1].rows
        if batch:
            return batch
        path = self._first_due()
        return [] if path is None else [self._failed[path][0]]

    def loaded(self, files: Iterable[LiveFile]) -> None:
        """Forgets that these had failed."""
        for file in files:
            self._failed.pop(file.path, None)

    def failed(self, files: Sequence[LiveFile]) -> None:
        """Puts back files that could not be read together."""
        now_s = self._monotonic()
        for file in files:
            wait_s = 0.0
            if len(files) == 1:
                before_s = self._failed[file.path][1].wait_s if file.path in self._failed else 0.0
                wait_s = min(max(2 * before_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
            self._failed[file.path] = (file, _Failure(wait_s, now_s + wait_s))

    def _first_due(self) -> str | None:
        now_s = self._monotonic()
        due = (path for path, (_, failure) in self._failed.items() if failure.due_s <= now_s)
        return next(due, None)
