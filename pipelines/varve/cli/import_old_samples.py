"""What of an import is too old for a gateway, and goes straight into the tables."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from varve.gateway.importing.file_history import FileHistory
from varve.gateway.importing.sender import Outcome
from varve.gateway.importing.tsdb.block import TsdbBlock
from varve.gateway.importing.tsdb.block_history import BlockHistory
from varve.maintenance.backfill import Source, days_of
from varve.model.clock import SystemClock, utc_text
from varve.services.backfills import needs_backfill, open_backfill, until_ms
from varve.settings import Settings

_PROGRESS_S = 1.0


def old_part(
    folders: Sequence[Path], settings: Settings, told: Callable[[str], None]
) -> OldPart | None:
    """The old part of blocks; None if no block has any. told: is told how far it has come. Raises
    DamagedBlock, OSError.
    """
    now_ms = SystemClock().now_ms()
    blocks = [TsdbBlock(folder) for folder in folders]
    if not any(needs_backfill(settings, block.begin_ms, now_ms) for block in blocks):
        return None
    until = until_ms(settings, now_ms)
    sources = [BlockHistory(block) for block in blocks if block.begin_ms <= until]
    return OldPart(settings, f"{len(sources)} blocks", sources, until, told)


@contextmanager
def old_part_of_file(
    file: Path, settings: Settings, told: Callable[[str], None]
) -> Iterator[tuple[FileHistory, OldPart]]:
    """What takes the old samples of a file while it is read, and brings them into the tables then.
    They lie in a folder of the home in between, which goes with the context.
    """
    until = until_ms(settings, SystemClock().now_ms())
    parent = settings.home / "imports"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="old-", dir=parent) as folder:
        history = FileHistory(file, Path(folder), until)
        yield history, OldPart(settings, str(file), [history], until, told)


class OldPart:
    """Samples of some sources up to until_ms."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        sources: Sequence[Source],
        until_ms: int,
        told: Callable[[str], None],
    ) -> None:
        self.until_ms = until_ms
        self.name = f"{name} up to {utc_text(until_ms)}, into the tables"
        self._settings, self._sources, self._told = settings, sources, told
        self._said_s = time.monotonic()

    def bring(self, *, dry_run: bool) -> Outcome:
        """Raises NeedsOperator if the tables are not where the settings say."""
        backfill = open_backfill(self._settings)
        if dry_run:
            days = ((s, day) for s in self._sources for day in days_of(s, self.until_ms))
            return Outcome(sum(len(part.ts) for s, day in days for part in s.stretches(day)))
        now_ms, labels = SystemClock().now_ms(), self._settings.gateway.external_labels
        done = backfill.run(self._sources, self.until_ms, now_ms, labels, self._progress)
        if done.expired:
            done.problems.append(f"{done.expired:,} samples are older than every retention")
        return Outcome(done.taken, done.refused + done.expired, 0, done.problems)

    def _progress(self, reached_ms: int) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= _PROGRESS_S:
            self._said_s = now_s
            self._told(f"{self.name}: they have everything up to {utc_text(reached_ms)}")
