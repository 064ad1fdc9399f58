"""One Kafka message, as every reader of topics hands it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[str, bytes | None]]
"""Headers of a message in the order they were written; a name may come more than once."""


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message. ts: its timestamp as the broker keeps it, ms since the epoch by contract.

    value: None for a tombstone.
    """

    topic: str
    partition: int
    offset: int
    ts: int
    value: bytes | None
    headers: Headers = ()
