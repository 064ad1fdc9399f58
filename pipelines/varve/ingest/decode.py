"""Any bytes to samples or a reason: finds the format of a message by its first bytes."""

from __future__ import annotations

from varve.ingest import arrow_format
from varve.ingest.block import EMPTY, Block, Reject
from varve.ingest.json_format import JsonReader
from varve.ingest.reasons import Reason

# A Confluent schema registry frame: this byte, then the schema's number in four.
_CONFLUENT = b"\x00"


class Decoder:
    """Decodes the messages of one task. Not safe to share by threads."""

    def __init__(self, max_message_bytes: int) -> None:
        self._json = JsonReader()
        self._max_message_bytes = max_message_bytes

    def decode(self, message: bytes | None) -> Block:
        """Never raises: what cannot be stored is in `rejects`."""
        if not message:
            return _refused(Reason.MALFORMED, "the message is empty", b"")
        if len(message) > self._max_message_bytes:
            text = f"{len(message)} bytes, over the {self._max_message_bytes} allowed"
            return _refused(Reason.MESSAGE_TOO_LARGE, text, message)
        if message.startswith(arrow_format.MAGIC):
            return arrow_format.read(message)
        if message.startswith(_CONFLUENT):
            text = "framed for a schema registry; send plain JSON or Arrow IPC"
            return _refused(Reason.MALFORMED, text, message)
        return self._json.read(message)


def _refused(reason: Reason, detail: str, message: bytes) -> Block:
    return Block(
        EMPTY.series_ids,
        EMPTY.checks,
        EMPTY.ts,
        EMPTY.values,
        rejects=[Reject(reason, detail, 1, message)],
    )
