"""What runs in a home, for `varve status` and the page: by status files, processes, `varve up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varve.services.status import STATES, Record, read_status

_SILENT_MS = 30_000
# What `varve up` says of a component that does not run goes before its own last word.
_NOT_RUNNING = ("held", "waiting", "failed")
# What a component tells in its status file, the most important first: one is shown.
_NOTES = ("error", "degraded", "waiting", "url", "metrics")


@dataclass(frozen=True, slots=True)
class ComponentView:
    """A component as its status file, its process and `varve up` tell."""

    name: str
    state: str
    """What it said last, dead if its process has gone without saying so, or hangs if `varve up`,
    which speaks each second, is silent."""
    pid: int | None
    up_ms: int | None
    """How long the process has run; None if it does not."""
    restarts: int
    note: str
    """What it says of itself, for a person."""
    detail: Mapping[str, Any]


def component_views(home: Path, now_ms: int) -> tuple[ComponentView, ...]:
    """Every component that ever ran in the home, `varve up` first."""
    records = read_status(home)
    supervised = records["up"].detail.get("components") or {} if "up" in records else {}
    up_runs = "up" in records and records["up"].alive()
    order = ["up", *supervised, *(name for name in records if name not in supervised)]
    views = []
    for name in dict.fromkeys(order):
        if name not in records:
            continue
        record = records[name]
        alive = record.alive()
        over = record.state in ("stopped", "failed")
        state: str = record.state if alive or over else "dead"
        told = supervised.get(name, {})
        if up_runs and told.get("state") in _NOT_RUNNING:
            state = told["state"]
        if name == "up" and alive and now_ms - record.updated_ms > _SILENT_MS:
            state = "hangs"
        views.append(
            ComponentView(
                name,
                state,
                record.pid if alive else None,
                now_ms - record.started_ms if alive else None,
                int(told.get("restarts", 0)),
                str(told.get("why") or _note(record)) if up_runs else _note(record),
                record.detail,
            )
        )
    return tuple(views)


def condition(home: Path, now_ms: int) -> dict[str, Any]:
    """What the page shows of a home: its state, and name, state and note of each component.

    The state is that of `varve up`, or degraded if it was killed or hangs. Where it was not
    started, or has ended in order, those components count that run as processes of their own: on a
    cluster that is the query service alone, as others do not run in its home.
    """
    views = component_views(home, now_ms)
    up = next((view for view in views if view.name == "up"), None)
    if up is None or up.state == "stopped":
        views = tuple(view for view in views if view.pid is not None)
        wrong = [view.state for view in views if view.state != "ready"]
        state = (
            wrong[0] if wrong and set(wrong) == {"starting"} else "degraded" if wrong else "ready"
        )
    else:
        state = up.state if up.pid is not None and up.state in STATES else "degraded"
    return {
        "state": state,
        "components": [{"name": v.name, "state": v.state, "note": v.note} for v in views],
    }


def _note(record: Record) -> str:
    told = (record.detail.get(key) for key in _NOTES)
    said = next((text for text in told if text), None)
    if record.component == "collector":
        lost = record.detail.get("lost", 0)
        said = f"{record.detail.get('series', 0)} series" + (f", {lost:,} lost" if lost else "")
    return str(said or "")
