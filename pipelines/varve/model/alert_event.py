"""An alert event: what is told on the topic alerts when an alert changes its state.

The message is that of schemas/wire/alert-event.schema.json, and its fields are the columns of the
table alerts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from varve.model.errors import BadRequest
from varve.model.fingerprint import fingerprint

NAME_LABEL = "alertname"
"""The label that holds the name of the alert's rule."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """Raises BadRequest if the alert has no name, or a time makes no sense."""

    labels: Mapping[str, str]
    """Labels of the alert; the one called alertname is its rule."""
    state: Literal["pending", "firing", "resolved"]
    starts_ms: int
    """When the condition began to hold, Unix ms UTC."""
    evaluated_ms: int
    """When the state was found, Unix ms UTC."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    value: float | None = None
    snapshot: str | None = None
    """Token of the table versions it was found in."""
    ends_ms: int | None = None
    """Of a firing alert: when it ends if nothing else is said, Unix ms UTC."""

    def __post_init__(self) -> None:
        if not self.labels.get(NAME_LABEL):
            raise BadRequest(f"an alert needs a name: the label {NAME_LABEL}")
        if not 0 <= self.starts_ms <= self.evaluated_ms:
            raise BadRequest(
                f"an alert begins by the time it is found: {self.starts_ms}, {self.evaluated_ms}"
            )

    @property
    def key(self) -> str:
        """Identity of the alert, hexadecimal. Messages of one alert keep their order by it."""
        return f"{fingerprint(self.labels):016x}"

    @property
    def event_id(self) -> str:
        """The same for the same change of state, however often it is told."""
        text = f"{self.key}/{self.state}/{self.starts_ms}/{self.evaluated_ms}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def message(self) -> bytes:
        """The event as JSON."""
        return json.dumps(
            {
                "event_id": self.event_id,
                "fingerprint": self.key,
                "rule": self.labels[NAME_LABEL],
                "state": self.state,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
                "value": _number(self.value),
                "starts_at": self.starts_ms,
                "ends_at": self.evaluated_ms if self.state == "resolved" else self.ends_ms,
                "evaluated_at": self.evaluated_ms,
                "snapshot": self.snapshot,
            },
            ensure_ascii=False,
        ).encode()


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
