"""One Kafka message, as every reader of topics hands it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]
"""Headers of a message in the order they were written; a name may come more than once."""


class Message(NamedTuple):
    """One Kafka message. ts: its timestamp as the broker keeps it, ms since the epoch by contract.

    value: None for a tombstone. A tuple, as there may be a hundred thousand a second.
    """

    topic: str
    partition: int
    offset: int
    ts: int
    value: bytes | None
    headers: Headers = ()
