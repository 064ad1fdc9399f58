"""What `varve status` shows: components, lag, progress, rejects, as far as each can be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from varve.kafka.connection import reachable
from varve.model.clock import Clock, SystemClock
from varve.model.errors import VarveError
from varve.services.component_views import ComponentView, component_views
from varve.services.discovery import with_running_kafka
from varve.services.home import Home
from varve.services.progress import Lag, Progress, lags, progress
from varve.settings import Settings


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
    views = component_views(home.path, now_ms)
    return Overview(
        str(home.path), settings.storage.root, views, lag, lag_unknown, done, done_unknown
    )


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
