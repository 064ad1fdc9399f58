"""Evaluations without all their data, which are done again once it is there and compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from varve.rules.alerts import Alerts
from varve.rules.running.changes import Change, review

ByPlace = Mapping[int, Alerts]
"""Alerts by the place of their rule in its group."""


@dataclass(slots=True)
class Provisional:
    """Such evaluations of one group. would_be: the alerts that there would be, had all data been
    there, as of the last evaluation that was reviewed.
    """

    would_be: ByPlace
    _left: deque[tuple[int, ByPlace, ByPlace]] = field(default_factory=deque)

    def add(self, at_ms: int, before: ByPlace, after: ByPlace) -> None:
        """An evaluation, with the alerts before and after it."""
        self._left.append((at_ms, before, after))

    @property
    def is_done(self) -> bool:
        return not self._left

    def reviewed(self, group: str, at_ms: int, would_be: ByPlace) -> list[Change]:
        """What all data says of the evaluation for `at_ms`; nothing if it is not among these.

        Those before it, whose data was never complete, are left out.
        """
        self.would_be = would_be
        while self._left and self._left[0][0] < at_ms:
            self._left.popleft()
        if not self._left or self._left[0][0] != at_ms:
            return []
        _, before, after = self._left.popleft()
        return [
            change
            for place in sorted(would_be)
            for change in review(
                group, before.get(place, {}), after.get(place, {}), would_be[place], at_ms
            )
        ]
