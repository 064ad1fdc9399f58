"""A writer in a process of its own, driven line by line: `python commit_rival.py`, JSON on stdin.

Each request names a move below, its arguments and the instant (CLOCK_MONOTONIC) to start at, so
that rivals meet within microseconds. Each answer says how it ended and what was in the way.
"""

from __future__ import annotations

import json
import sys
import time

import pyarrow as pa

from varve.model.errors import Conflict
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.snapshot import Follower
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

TABLE = "samples"


def samples(offsets: range, series: int = 1) -> pa.Table:
    """A row an offset: its ts is the offset, so that a lost or doubled one shows."""
    return pa.table(
        {
            "series_id": pa.array([series] * len(offsets), pa.int64()),
            "ts": pa.array(offsets, pa.int64()),
            "value": pa.array([float(o) for o in offsets], pa.float64()),
        }
    )


class Rival:
    def open(self, root: str, options: dict[str, str]) -> str:
        """Moves to another store; its table exists."""
        self.store = Store(root, options)
        self.table = Table(self.store, TABLE)
        self.follower = Follower(self.store, TABLE)
        return "open"

    def create(self, root: str, options: dict[str, str]) -> str:
        create_tables(Store(root, options))
        return "created"

    def once(self, work: str, expected: int | None, new: int, offset: int) -> str:
        """One try of one piece of work, as after a restart with a checkpoint of old."""
        written = write_file(self.store, TABLE, samples(range(offset, offset + 1)))
        return self._commit(written, work, Step(expected, new))

    def until_stored(self, work: str, end: int) -> str:
        """Stores [position, end), planning again from the table after each conflict."""
        conflicts = 0
        while True:
            self.table.refresh()
            start = self.table.position(work) or 0
            if start >= end:
                return f"stored after {conflicts}"
            written = write_file(self.store, TABLE, samples(range(start, end)))
            step = Step(self.table.position(work), end)
            if self._commit(written, work, step) == "won":
                return f"stored after {conflicts}"
            conflicts += 1

    def insist(self, work: str, version: int, offset: int) -> str:
        """A commit that leaves its position where it is, until it is in."""
        written = write_file(self.store, TABLE, samples(range(offset, offset + 1)))
        while self._commit(written, work, Step(version, version)) != "won":
            pass
        return "won"

    def compact(self, files: list[str] | None = None) -> str:
        """Replaces the named files, or all there are, by one with the same rows."""
        now = self.follower.refresh()
        chosen = [f for f in now.files if files is None or f.path in files]
        if files is not None and len(chosen) < len(files):
            return "conflict"
        if not chosen:
            return "nothing"
        rows = now.scan(Bounds(), files=chosen).sort_by("ts")
        written = write_file(self.store, TABLE, rows)
        try:
            rewrite(self.table, [written], [Removal(f.path, f.size) for f in chosen])
        except Conflict:
            return "conflict"
        return "won"

    def _commit(self, written: NewFile, work: str, step: Step) -> str:
        try:
            commit(self.table, [written], transactions={work: step})
        except Conflict:
            return "conflict"
        return "won"


def main() -> None:
    rival = Rival()
    for line in sys.stdin:
        move, arguments, start = json.loads(line)
        while time.monotonic() < start:
            pass
        print(json.dumps(getattr(rival, move)(**arguments)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
