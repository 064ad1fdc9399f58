"""Alert events: a change of state of an alert, as the topic alerts carries it.

The form is schemas/wire/alert-event.schema.json. Identities are functions of what they are of, so
that an event that is sent twice is one event.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"


def alert_event(
    labels: Mapping[str, str],
    state: str,
    annotations: Mapping[str, str],
    *,
    value: float | None,
    starts_at: int,
    ends_at: int | None,
    evaluated_at: int,
    snapshot: str | None = None,
) -> dict[str, Any]:
    """labels: those of the alert, alertname among them. Times are ms since the Unix epoch."""
    identity = fingerprint(labels)
    event = f"{identity}:{state}:{starts_at}:{evaluated_at}"
    return {
        "event_id": hashlib.blake2b(event.encode(), digest_size=16).hexdigest(),
        "fingerprint": identity,
        "rule": labels["alertname"],
        "state": state,
        "labels": dict(sorted(labels.items())),
        "annotations": dict(annotations),
        "value": json_number(value),
        "starts_at": starts_at,
        "ends_at": ends_at,
        "evaluated_at": evaluated_at,
        "snapshot": snapshot,
    }


def fingerprint(labels: Mapping[str, str]) -> str:
    """Identity of an alert: 16 hexadecimal digits."""
    text = json.dumps(sorted(labels.items()), ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def json_number(value: float | None) -> float | str | None:
    """A number as JSON has it: NaN and the infinities as text."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
