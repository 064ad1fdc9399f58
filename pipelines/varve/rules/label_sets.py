"""Label sets of rules and alerts, and the names that rules give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Labels = tuple[tuple[str, str], ...]
"""One label set as varve.promql has it: (name, value) sorted by name; no value is empty."""

METRIC_NAME: Final = "__name__"
ALERT_NAME: Final = "alertname"
ALERT_STATE: Final = "alertstate"
ALERTS: Final = "ALERTS"
FOR_STATE: Final = "ALERTS_FOR_STATE"


def labels_of(given: Mapping[str, str]) -> Labels:
    """A label set; empty values count as absent."""
    return tuple(sorted((name, value) for name, value in given.items() if value))
