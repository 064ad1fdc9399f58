"""Puts the rules behind the contract of the alerting judge (shared/alerttest/adapter.py)."""

from __future__ import annotations

from typing import Any

from varve.templates import conformance


class Adapter:
    """Runs plans on a clock of its own."""

    def alert_template(self, case: dict[str, Any]) -> str:
        return conformance.alert_template(case)

    def notification_template(self, case: dict[str, Any]) -> str:
        return conformance.notification_template(case)
