"""History past what ingest takes, by the settings: which it is, and what brings it in."""

from __future__ import annotations

from varve.ingest.limits import LimitsFile
from varve.ingest.series_registry import SeriesRegistry
from varve.maintenance.backfill import Backfill, backfill_until, oldest_taken
from varve.model.window import HOUR_MS
from varve.services.limits import limits_files
from varve.services.progress import table_store
from varve.services.retention import retention_reader
from varve.settings import Settings


def needs_backfill(settings: Settings, begin_ms: int, now_ms: int) -> bool:
    """Whether ingest would refuse samples of a time, of some series at least."""
    return begin_ms < oldest_taken(now_ms, retention_reader(settings)())


def until_ms(settings: Settings, now_ms: int) -> int:
    """Up to when samples are to go straight into the tables."""
    return backfill_until(now_ms, retention_reader(settings)())


def open_backfill(settings: Settings) -> Backfill:
    """Raises NeedsOperator if the tables are not where the settings say."""
    store = table_store(settings)
    active_ms = int(settings.ingest.active_hours * HOUR_MS)
    registry = SeriesRegistry(store, settings.ingest.scratch, active_ms)
    limits = LimitsFile(limits_files(settings)).current()
    return Backfill(store, retention_reader(settings)(), registry, limits)
