"""The notification log: what each integration was last told of each group, so that none is told
the same thing twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from varve.notify.records import Told


class NotificationLog:
    def __init__(self) -> None:
        self._by_key: dict[str, Told] = {}

    def __iter__(self) -> Iterator[Told]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: str, now_ms: int) -> Told | None:
        told = self._by_key.get(key)
        return told if told is not None and now_ms < told.expires_ms else None

    def find(self, key: str) -> Told | None:
        """The line itself, expired or not."""
        return self._by_key.get(key)

    def put(self, told: Told) -> None:
        self._by_key[told.key] = told

    def forget_expired(self, now_ms: int) -> None:
        self._by_key = {k: t for k, t in self._by_key.items() if now_ms < t.expires_ms}


def reason_to_tell(
    told: Told | None,
    firing: set[int],
    resolved: set[int],
    *,
    send_resolved: bool,
    repeat_after_ms: int,
    now_ms: int,
) -> str:
    """Why an integration should be told of a group: new, change, end or repeat; "" if it need not.

    firing, resolved: fingerprints of the group's alerts now. An alert that fired before and is not
    in either (silenced, inhibited) is no reason. Ends are a reason even without send_resolved: the
    log has to forget that they fired.
    """
    if told is None:
        return "new" if firing else ""
    if not firing <= set(told.firing):
        return "change"
    if not firing:
        return "end" if told.firing else ""
    if send_resolved and not resolved <= set(told.resolved):
        return "change"
    return "repeat" if told.at_ms < now_ms - repeat_after_ms else ""
