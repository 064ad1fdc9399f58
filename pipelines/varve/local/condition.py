"""In what state the whole of `varve up` is: starting, ready or degraded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from varve.local.disk import Shortage
from varve.local.supervisor import Health
from varve.services.status import State, read_status

_PROGRESS_S = 10.0


class Condition:
    """Says when the state changes, and while it starts, what is awaited."""

    def __init__(self, home: Path, url: str, say: Callable[[str], None]) -> None:
        """url: the page, which is told once all is ready."""
        self._home = home
        self._url = url
        self._say = say
        self._begun = self._said_at = time.monotonic()
        self.state: State = "starting"
        self.was_ready = False
        """Whether all components were ready at some time."""
        self.wrong = ""
        """What keeps components from running, apart from that they are just being started."""

    def update(self, health: Mapping[str, Health], shortage: Shortage | None) -> None:
        before = self.state
        self.wrong = _wrong(health, shortage)
        if health and all(h.up for h in health.values()):
            self.state = "ready"
        elif self.was_ready or self.wrong:
            self.state = "degraded"
        if self.state == "ready" and not self.was_ready:
            self.was_ready = True
            self._say(f"Ready after {time.monotonic() - self._begun:.0f} s: open {self._url}")
        elif self.state == "ready" and before == "degraded":
            self._say("all components run again")
        elif self.state == "starting" and time.monotonic() - self._said_at > _PROGRESS_S:
            self._said_at = time.monotonic()
            self._say_what_is_awaited(health)

    def _say_what_is_awaited(self, health: Mapping[str, Health]) -> None:
        statuses = read_status(self._home)
        waiting = []
        for name in (name for name, h in health.items() if not h.up):
            detail = statuses[name].detail if name in statuses else {}
            sent = f" ({detail['samples']:,} of {detail['of']:,} samples)" if "of" in detail else ""
            waiting.append(name + sent)
        elapsed = time.monotonic() - self._begun
        self._say(f"still starting after {elapsed:.0f} s: {', '.join(waiting)}")


def _wrong(health: Mapping[str, Health], shortage: Shortage | None) -> str:
    wrong = [f"{name}: {h.why}" for name, h in health.items() if h.failures and not h.up]
    if shortage is not None:
        wrong.insert(0, shortage.why)
    return "; ".join(wrong)
