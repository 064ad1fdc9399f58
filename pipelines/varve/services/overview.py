"""What `varve status` shows: components, lag, progress, rejects, as far as each can be known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from varve.kafka.connection import reachable
from varve.model.clock import Clock, SystemClock
from varve.model.errors import VarveError
from varve.services.discovery import with_running_kafka
from varve.services.home import Home
from varve.services.progress import Lag, Progress, lags, progress
from varve.services.status import Record, read_status
from varve.settings import Settings

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


@dataclass(frozen=True, slots=True)
class Overview:
    """All that is known of a home. lag and progress are None where they cannot be known; then
    lag_unknown and progress_unknown say why.
    """

    home: str
    elsewhere: str
    """Where the tables are if they are not in the home, else empty."""
    components: tuple[ComponentView, ...]
    lag: tuple[Lag, ...] | None
    lag_unknown: str
    progress: Progress | None
    progress_unknown: str

    def lag_by_query(self) -> dict[str, int]:
        """Messages not yet stored, by ingest query."""
        counts: Counter[str] = Counter()
        for lag in self.lag or ():
            counts[lag.query] += lag.messages
        return dict(counts)

    def as_json(self) -> dict[str, Any]:
        """What `varve status --json` prints."""
        partitions = [
            {
                "query": lag.query,
                "topic": lag.partition.topic,
                "partition": lag.partition.number,
                "end": lag.end,
                "stored": lag.stored,
                "messages": lag.messages,
            }
            for lag in self.lag or ()
        ]
        return {
            "home": self.home,
            "elsewhere": self.elsewhere or None,
            "components": [asdict(c) for c in self.components],
            "lag": partitions if self.lag is not None else None,
            "lag_unknown": self.lag_unknown or None,
            "progress": asdict(self.progress) if self.progress else None,
            "progress_unknown": self.progress_unknown or None,
        }


def overview(settings: Settings, clock: Clock | None = None) -> Overview:
    """Looks at everything, which takes a second or two. It raises nothing for what does not run."""
    home = Home.at(settings.home)
    settings = settings.model_copy(update={"home": home.path})
    done, done_unknown = _progress(settings)
    lag, lag_unknown = _lag(settings) if done else (None, "there are no tables yet")
    now_ms = (clock or SystemClock()).now_ms()
    views = _components(read_status(home.path), now_ms)
    return Overview(
        str(home.path), settings.storage.root, views, lag, lag_unknown, done, done_unknown
    )


def _components(records: Mapping[str, Record], now_ms: int) -> tuple[ComponentView, ...]:
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


def _note(record: Record) -> str:
    told = (record.detail.get(key) for key in _NOTES)
    said = next((text for text in told if text), None)
    if record.component == "collector":
        lost = record.detail.get("lost", 0)
        said = f"{record.detail.get('series', 0)} series" + (f", {lost:,} lost" if lost else "")
    return str(said or "")


def _progress(settings: Settings) -> tuple[Progress | None, str]:
    try:
        return progress(settings), ""
    except (VarveError, OSError) as err:
        return None, str(err)


def _lag(settings: Settings) -> tuple[tuple[Lag, ...] | None, str]:
    try:
        settings = with_running_kafka(settings)
    except VarveError as err:
        return None, str(err)
    servers = settings.kafka.servers()
    # Kafka's client would try for half a minute.
    if not reachable(servers):
        return None, f"no Kafka at {servers}"
    try:
        return tuple(lags(settings)), ""
    except VarveError as err:
        return None, str(err)
