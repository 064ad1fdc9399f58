"""What of the blocks of an import is too old for a gateway, and goes straight into the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from varve.gateway.importing.sender import Outcome
from varve.gateway.importing.tsdb.block import TsdbBlock
from varve.gateway.importing.tsdb.block_history import BlockHistory
from varve.model.clock import SystemClock, utc_text
from varve.model.window import Window
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
    return OldPart(settings, sources, until, told)


class OldPart:
    """Samples of blocks up to until_ms."""

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[BlockHistory],
        until_ms: int,
        told: Callable[[str], None],
    ) -> None:
        self.until_ms = until_ms
        self.name = f"{len(sources)} blocks up to {utc_text(until_ms)}, into the tables"
        self._settings, self._sources, self._told = settings, sources, told
        self._said_s = time.monotonic()

    def bring(self, *, dry_run: bool) -> Outcome:
        """Raises NeedsOperator if the tables are not where the settings say."""
        backfill = open_backfill(self._settings)
        if dry_run:
            spans = [(s, Window(s.begin_ms - 1, self.until_ms)) for s in self._sources]
            return Outcome(sum(len(part.ts) for s, w in spans for part in s.stretches(w)))
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
