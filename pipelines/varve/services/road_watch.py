"""What a service on the road to Kafka says of its state."""

from __future__ import annotations

import logging

from varve.services.road import Road
from varve.services.status import ComponentStatus, State


class RoadWatch:
    """Says in what state a service is, and that its work goes on."""

    def __init__(self, status: ComponentStatus, log: logging.Logger) -> None:
        self._status = status
        self._log = log
        self._said: tuple[str, str] | None = None

    def look(self, road: Road) -> None:
        """Says what has changed since the last look."""
        why = road.why_not_ready()
        state: State = "starting" if road.app is None else "ready"
        self._status.progressed()
        if self._said != (state, why):
            self._said = (state, why)
            self._status.update(state=state, detail={"waiting": why or None})
            self._log.info("%s%s", state, f": {why}" if why else "")
