"""`varve serve demo-history`: sends the generated history to Kafka, once in the life of a home."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from varve.client import Producer
from varve.collectors.demo import history
from varve.model.clock import SystemClock
from varve.model.errors import TemporaryError
from varve.model.window import DAY_MS, MINUTE_MS, floor_to
from varve.services.status import ComponentStatus, replace_file
from varve.settings import Settings

_log = logging.getLogger("varve.demo_history")

_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Marker:
    """The arguments of the history, noted before its first sample is sent.

    A second try after a crash sends equal samples with them, which are stored as one.
    """

    end_ms: int
    days: float
    interval_s: int
    seed: int
    done: bool = False
    samples: int = 0


def run(settings: Settings) -> int:
    """Returns 0 when all of it is acknowledged, at once if it was before.

    Raises TemporaryError if Kafka is away for two minutes.
    """
    status = ComponentStatus(settings.home, "demo-history")
    path = settings.home / "run" / "demo-history.json"
    demo = settings.demo
    marker = _read(path) or Marker(
        floor_to(SystemClock().now_ms(), MINUTE_MS), demo.days, demo.interval_s, demo.seed
    )
    if marker.done:
        status.update(state="stopped", detail={"samples": marker.samples, "sent_before": True})
        _log.info("%d samples up to %d were sent before", marker.samples, marker.end_ms)
        return 0
    replace_file(path, json.dumps(asdict(marker)))
    samples = _send(settings, marker, status)
    done = Marker(marker.end_ms, marker.days, marker.interval_s, marker.seed, True, samples)
    replace_file(path, json.dumps(asdict(done)))
    status.update(state="stopped", detail={"samples": samples})
    return 0


def _send(settings: Settings, marker: Marker, status: ComponentStatus) -> int:
    """Sends the whole history and returns its number of samples. Raises TemporaryError."""
    story = history(marker.end_ms, days=marker.days, interval_s=marker.interval_s, seed=marker.seed)
    status.update(state="starting", detail={"samples": 0, "of": len(story)})
    with Producer(
        settings.kafka.servers(),
        settings.kafka.topics.raw,
        options=settings.kafka.client_options(),
        client_id="varve-demo-history",
        linger_ms=20,
    ) as producer:
        day_ms = floor_to(int(story.ts_ms[0]), DAY_MS)
        while day_ms <= marker.end_ms:
            refused = producer.put(story.samples(day_ms, day_ms + DAY_MS), wait_s=_WAIT_S)
            counts = producer.counts()
            if refused or counts.lost:
                raise TemporaryError(f"Kafka does not take the history: {counts.last_error}")
            status.update(state="ready", detail={"samples": counts.acknowledged})
            status.progressed()
            day_ms += DAY_MS
        counts = producer.close(_WAIT_S)
    if counts.acknowledged != len(story):
        raise TemporaryError(f"Kafka did not take all of the history: {counts.last_error}")
    return counts.acknowledged


def _read(path: Path) -> Marker | None:
    return Marker(**json.loads(path.read_text())) if path.exists() else None
