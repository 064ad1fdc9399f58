"""Upkeep on an S3 that fails: `python tests/benchmarks/chaos_s3.py [--minutes 5] [--seed N]`.

Hot root, cold root and backups lie in a bucket of moto, behind a server that answers 500 and 503
(before or after it has done as asked), 409 and 412, or hangs for longer than clients wait: to a
tenth of the requests, then to half of them, then to all for some seconds, then to none, and so on.
Meanwhile samples come, some of them late, and are rolled up, compacted, moved, expired and backed
up, day after simulated day; whatever fails is begun again. An oracle keeps all samples. At the end
every table has to be as the oracle has it, and so has a backup that was taken and restored amid
faults.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

from tests import faulty_s3  # noqa: E402
from tests.year import TABLES, Year, retention  # noqa: E402
from varve.maintenance.backup import Backup, take_backup  # noqa: E402
from varve.maintenance.restore import restore_backup  # noqa: E402
from varve.model.errors import Conflict, TemporaryError  # noqa: E402
from varve.model.window import DAY_MS, HOUR_MS  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table  # noqa: E402

T = TypeVar("T")

KEPT = retention(2, 3, 4, 5, 6, debug=(1, 2))
MOVED_AFTER = (DAY_MS // 2,)
PHASES = ((20, 0.1), (8, 0.4), (4, 1.0), (8, 0.0))
"""Seconds, and the share of requests that fail meanwhile; over and over."""
CLIENT_WAITS = "0.5s"
faulty_s3.HANG_S = 0.7


class Enduring(Year):
    """A year on a storage that fails: each step is begun again until it succeeds."""

    def __init__(self, s3: faulty_s3.FaultyS3, seed: int) -> None:
        options = s3.options | {"timeout": CLIENT_WAITS}
        cold = Store(f"{s3.root}-cold", options)
        super().__init__(s3.root, KEPT, seed, HOUR_MS, cold, options=options)
        self.s3, self.begun, self.failed = s3, time.monotonic(), Counter[str]()
        self.backups = Store(f"{s3.root}-backups", options)

    def endure(self, name: str, work: Callable[[], T]) -> T:
        """The result of some work, which is planned anew from the tables whenever it fails."""
        while True:
            self.s3.failing = self._failing()
            try:
                return work()
            except (OSError, TemporaryError, Conflict):
                self.failed[name] += 1
                for worker in self.workers:
                    worker.forget()

    def heal(self) -> None:
        """From now on nothing fails."""
        self.s3.failing, self.begun = 0.0, -1.0

    def put(self, new: Mapping[tuple[int, int], float | None]) -> None:
        """A commit whose answer was lost is known by its position, as ingest knows it."""
        before = self._position()

        def once() -> None:
            if self._position() == before:
                super(Enduring, self).put(new)

        self.endure("append", once)
        self.samples.update(new)

    def roll_up(self, tiers: int = 4) -> None:
        self.endure("roll-up", lambda: super(Enduring, self).roll_up(tiers))

    def compact(self) -> None:
        self.endure("compaction", super().compact)

    def move(self) -> int:
        return self.endure("move", lambda: super(Enduring, self).tier(MOVED_AFTER))

    def expire(self) -> int:
        return self.endure("expiry", super().expire)

    def back_up(self) -> Backup:
        def once() -> Backup:
            # The second of its clock names a backup.
            self.clock.advance(1_000)
            return take_backup(self.store, self.backups, self.clock).backup

        return self.endure("backup", once)

    def restore(self, backup: Backup, folder: str) -> Store:
        copy = Store(f"{folder}/hot", {}, Store(f"{folder}/cold"))
        self.endure("restore", lambda: restore_backup(self.backups, copy, backup))
        return copy

    def _position(self) -> int | None:
        return self.endure("look", lambda: Table(self.store, "samples").position("test:0"))

    def _failing(self) -> float:
        if self.begun < 0:
            return 0.0
        at = (time.monotonic() - self.begun) % sum(seconds for seconds, _ in PHASES)
        for seconds, share in PHASES:
            if at < seconds:
                return share
            at -= seconds
        return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with faulty_s3.FaultyS3(seed=args.seed) as s3, tempfile.TemporaryDirectory() as folder:
        year = Enduring(s3, args.seed)
        days = moved = expired = 0
        while time.monotonic() - year.begun < args.minutes * 60:
            year.day(parts=2)
            year.compact()
            moved += year.move()
            expired += year.expire()
            backup = year.back_up()
            days += 1
        copy = year.restore(backup, folder)
        faults = ", ".join(f"{n:,} {kind}" for kind, n in sorted(s3.faults.items()))
        print(f"{days} days; {s3.requests:,} requests, of which failed: {faults}")
        print(f"begun again: {dict(sorted(year.failed.items()))}")
        year.heal()
        compared = year.check()
        print(f"as the oracle has it: {compared}; {moved} files moved, {expired:,} rows expired")
        year.store = copy
        same = {name: len(year.stored(name)) for name in TABLES}
        year.check()
        print(f"so is the backup that was restored: {same}")
    if not (moved and expired):
        print("in so few days nothing was old enough to move and to expire: ask for more --minutes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
