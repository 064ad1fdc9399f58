"""Plans and registries as the defaults of the settings make them, for tests that ingest."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from varve.ingest.limits import Limits
from varve.ingest.plan import IngestPlan, TaskPlan, TaskSettings
from varve.ingest.series_registry import Full, SeriesRegistry
from varve.model.clock import Clock
from varve.services.ingest_plans import ingest_plans
from varve.settings import Settings
from varve.storage.store import Store
from varve.storage.table import Table

_TASK_SETTINGS = {f.name for f in fields(TaskSettings)}


def ingest_plan(store: Store, **changes: Any) -> IngestPlan:
    """The bulk query over these tables, without limits. changes: fields of the plan, or of its
    task settings.
    """
    (plan,) = ingest_plans(Settings(), ["bulk"])
    tasks = _task_settings(plan.tasks, store, changes)
    return replace(plan, **{"tasks": tasks, "limits_files": ()} | changes)


def task_plan(store: Store, *, now_ms: int, **changes: Any) -> TaskPlan:
    """A batch at now_ms, without limits. changes: fields of the plan, or of its task settings."""
    (plan,) = ingest_plans(Settings(), ["bulk"])
    settings = _task_settings(plan.tasks, store, changes)
    given = {
        "oldest_ms": now_ms - settings.raw_retention_ms * 4 // 5,
        "newest_ms": now_ms + settings.max_future_ms,
        "old_before_ms": now_ms - settings.old_after_ms,
        "series_version": Table(store, "series").version,
        "limits": Limits(),
        "full": Full(),
    }
    return TaskPlan(settings, now_ms, **given | changes)


def open_registry(store: Store, clock: Clock | None = None) -> SeriesRegistry:
    (plan,) = ingest_plans(Settings(), ["bulk"])
    return SeriesRegistry(store, plan.tasks.scratch, plan.active_ms, clock)


def _task_settings(settings: TaskSettings, store: Store, changes: dict[str, Any]) -> TaskSettings:
    """Takes its fields out of `changes`."""
    own = {name: changes.pop(name) for name in _TASK_SETTINGS & changes.keys()}
    return replace(settings, store=store, **own)
