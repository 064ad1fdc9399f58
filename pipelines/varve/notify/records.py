"""What is stored: the facts of a notifier's state, as rows of its journal.

Applied in order they give the state again; a later record of a key replaces an earlier one. Times
are ms since the Unix epoch, UTC. Records are tagged arrays of msgpack: a field may be added at the
end if it has a default.
"""

from __future__ import annotations

import msgspec

Key = tuple[tuple[str, str], ...]
"""A label set: (name, value), sorted by name, without empty values."""


class Alert(msgspec.Struct, frozen=True, array_like=True, tag="alert"):
    """An alert as it was last sent; see alerts.merged for two senders."""

    id: int
    """Names it in later records; never used again for another label set."""
    labels: Key
    annotations: dict[str, str]
    starts_ms: int
    ends_ms: int
    updated_ms: int
    """When it was received last."""
    timeout: bool
    """No sender gave an end: it is resolve_timeout after the last sending."""
    generator_url: str
    fingerprint: int

    def resolved_at(self, now_ms: int) -> bool:
        return self.ends_ms <= now_ms


class Sent(msgspec.Struct, frozen=True, array_like=True, tag="sent"):
    """An alert was sent again, and only its end is another."""

    id: int
    ends_ms: int
    updated_ms: int


class Forgotten(msgspec.Struct, frozen=True, array_like=True, tag="forgotten"):
    """An alert that has ended is known no longer."""

    id: int


class Silence(msgspec.Struct, frozen=True, array_like=True, tag="silence"):
    id: str
    matchers: tuple[tuple[str, str, str], ...]
    """Name, operator and value of each, sorted."""
    starts_ms: int
    ends_ms: int
    updated_ms: int
    created_by: str
    comment: str
    annotations: dict[str, str] = {}


class SilenceGone(msgspec.Struct, frozen=True, array_like=True, tag="silence_gone"):
    id: str


class GroupState(msgspec.Struct, frozen=True, array_like=True, tag="group"):
    """A group of alerts exists, and when it is looked at next."""

    key: str
    next_ms: int
    told_ms: int
    """When all of it was told last, or it began: what had ended by then is not in the group."""
    flushed: bool


class GroupGone(msgspec.Struct, frozen=True, array_like=True, tag="group_gone"):
    key: str


class Told(msgspec.Struct, frozen=True, array_like=True, tag="told"):
    """A line of the notification log: what an integration was last told of a group."""

    key: str
    firing: tuple[int, ...]
    """Fingerprints, sorted."""
    resolved: tuple[int, ...]
    at_ms: int
    expires_ms: int
    data: dict[str, str] = {}
    """What the receiver answered and later messages need, such as a message's id."""


class Routing(msgspec.Struct, frozen=True, array_like=True, tag="routing"):
    """The routes by which the groups were made."""

    digest: str


class Acknowledged(msgspec.Struct, frozen=True, array_like=True, tag="acknowledged"):
    """Somebody takes care of an alert: nobody further is told, until it fires anew."""

    labels: Key
    by: str
    at_ms: int


class Began(msgspec.Struct, frozen=True, array_like=True, tag="began"):
    """When an alert began to fire, the last few times."""

    labels: Key
    at_ms: tuple[int, ...]


Record = (
    Alert
    | Sent
    | Forgotten
    | Silence
    | SilenceGone
    | GroupState
    | GroupGone
    | Told
    | Routing
    | Acknowledged
    | Began
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


def encode(records: list[Record]) -> bytes:
    return _encoder.encode(records)


def decode(payload: bytes | memoryview) -> list[Record]:
    """Raises msgspec.DecodeError or ValidationError if these are no records."""
    return _decoder.decode(payload)
