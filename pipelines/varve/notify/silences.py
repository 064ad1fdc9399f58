"""Silences: what they match, how they change, and which of them cover an alert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from varve.notify.matchers import Labels, Matcher, all_match, in_order
from varve.notify.records import Silence


class BadSilence(ValueError):
    """A silence is refused; the text says why."""


class UnknownSilence(LookupError):
    """No silence has this id."""


class State(StrEnum):
    EXPIRED = "expired"
    ACTIVE = "active"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit."""

    silences: int = 0
    bytes_each: int = 0


def state_of(silence: Silence, now_ms: int) -> State:
    if now_ms < silence.starts_ms:
        return State.PENDING
    return State.ACTIVE if now_ms < silence.ends_ms else State.EXPIRED


def order(silence: Silence, now_ms: int) -> tuple[int, int]:
    """Sorts the active first, by their end, then the pending by their start, then the expired."""
    match state_of(silence, now_ms):
        case State.ACTIVE:
            return 0, silence.ends_ms
        case State.PENDING:
            return 1, silence.starts_ms
        case _:
            return 2, -silence.ends_ms


class Silences:
    """All silences. Which of them match an alert is remembered by the alert's id."""

    def __init__(self, new_id: Callable[[], str], limits: Limits | None = None) -> None:
        self._new_id = new_id
        self._limits = limits or Limits()
        self._by_id: dict[str, Silence] = {}
        self._matchers: dict[str, tuple[Matcher, ...]] = {}
        # Ids in the order in which their matchers came: an id never gets other matchers.
        self._history: list[str] = []
        self._matching: dict[int, tuple[int, tuple[str, ...]]] = {}

    def __iter__(self) -> Iterator[Silence]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, silence_id: str) -> Silence:
        """Raises UnknownSilence."""
        if silence_id not in self._by_id:
            raise UnknownSilence(f"silence {silence_id} not found")
        return self._by_id[silence_id]

    def find(self, silence_id: str) -> Silence | None:
        return self._by_id.get(silence_id)

    def matchers_of(self, silence_id: str) -> tuple[Matcher, ...]:
        return self._matchers[silence_id]

    def put(self, wanted: Silence, now_ms: int) -> list[Silence]:
        """Makes a silence, or changes the one with its id; what has changed, the wanted one last.

        One that cannot be changed in place, as it has other matchers or has begun, is ended and
        gets a successor. Raises BadSilence, or UnknownSilence if there is none with its id.
        """
        self._check(wanted, now_ms)
        old = self.get(wanted.id) if wanted.id else None
        if old is not None and _can_change(old, wanted, now_ms):
            return [self.restore(_with(wanted, updated_ms=now_ms))]
        if 0 < self._limits.silences <= len(self._by_id):
            raise BadSilence(f"there are {len(self._by_id)} silences, and no more may be made")
        changed = []
        if old is not None and state_of(old, now_ms) is not State.EXPIRED:
            changed += self.expire(old.id, now_ms)
        starts_ms = max(wanted.starts_ms, now_ms)
        new = _with(wanted, id=self._new_id(), starts_ms=starts_ms, updated_ms=now_ms)
        return [*changed, self.restore(new)]

    def expire(self, silence_id: str, now_ms: int) -> list[Silence]:
        """Ends a silence now; what has changed. Raises UnknownSilence."""
        old = self.get(silence_id)
        match state_of(old, now_ms):
            case State.EXPIRED:
                return []
            case State.PENDING:
                return [
                    self.restore(_with(old, starts_ms=now_ms, ends_ms=now_ms, updated_ms=now_ms))
                ]
            case _:
                return [self.restore(_with(old, ends_ms=now_ms, updated_ms=now_ms))]

    def restore(self, silence: Silence) -> Silence:
        """Takes a silence as it was stored."""
        if silence.id not in self._matchers:
            self._matchers[silence.id] = tuple(Matcher(*parts) for parts in silence.matchers)
            self._history.append(silence.id)
        self._by_id[silence.id] = silence
        return silence

    def forget_ended(self, before_ms: int) -> list[str]:
        """Drops silences that ended before a time; their ids."""
        gone = [s.id for s in self._by_id.values() if s.ends_ms < before_ms]
        for silence_id in gone:
            self.drop(silence_id)
        if gone:
            self._history = [i for i in self._history if i in self._by_id]
            self._matching.clear()
        return gone

    def drop(self, silence_id: str) -> None:
        self._by_id.pop(silence_id, None)

    def forget_alert(self, alert_id: int) -> None:
        self._matching.pop(alert_id, None)

    def covering(self, alert_id: int, labels: Labels, now_ms: int) -> list[str]:
        """Ids of the active silences that match an alert, sorted."""
        seen, ids = self._matching.get(alert_id, (0, ()))
        if seen < len(self._history):
            new = tuple(
                i
                for i in self._history[seen:]
                if i in self._by_id and all_match(self._matchers[i], labels)
            )
            ids += new
            self._matching[alert_id] = (len(self._history), ids)
        if not ids:
            return []
        return sorted(
            i
            for i in ids
            if (s := self._by_id.get(i)) is not None and s.starts_ms <= now_ms < s.ends_ms
        )

    def _check(self, silence: Silence, now_ms: int) -> None:
        if silence.starts_ms >= silence.ends_ms:
            raise BadSilence("failed to create silence: start time must be before end time")
        if silence.ends_ms < now_ms:
            raise BadSilence("failed to create silence: end time can't be in the past")
        if not silence.matchers:
            raise BadSilence("invalid silence: at least one matcher required")
        try:
            matchers = [Matcher(*parts) for parts in silence.matchers]
        except ValueError as err:
            raise BadSilence(f"invalid silence: {err}") from None
        if any(not m.name for m in matchers):
            raise BadSilence("invalid silence: a matcher names no label")
        # One that excludes a value is enough, as in Alertmanager: everything but staging.
        if all(m.is_equal and m.holds("") for m in matchers):
            raise BadSilence(
                "invalid silence: at least one matcher must not match the empty string"
            )
        limit = self._limits.bytes_each
        size = sum(len(part.encode()) for parts in silence.matchers for part in parts)
        size += len(silence.comment.encode()) + len(silence.created_by.encode())
        if 0 < limit < size:
            raise BadSilence(f"silence exceeded maximum size: {size} bytes (limit: {limit} bytes)")


def stored_matchers(matchers: list[Matcher]) -> tuple[tuple[str, str, str], ...]:
    return tuple((m.name, m.operator, m.value) for m in in_order(matchers))


def _can_change(old: Silence, new: Silence, now_ms: int) -> bool:
    if old.matchers != new.matchers:
        return False
    match state_of(old, now_ms):
        case State.ACTIVE:
            # Clients send the start in seconds, or as they got it.
            return old.starts_ms // 1000 == new.starts_ms // 1000
        case State.PENDING:
            return new.starts_ms >= now_ms
        case _:
            return False


def _with(silence: Silence, **changes: object) -> Silence:
    fields = {name: getattr(silence, name) for name in silence.__struct_fields__}
    return Silence(**(fields | changes))
