"""Any bytes to samples or a reason: finds the format of a message by its first bytes."""

from __future__ import annotations

from varve.ingest import arrow_format
from varve.ingest.block import Block, refused
from varve.ingest.json_format import JsonReader
from varve.ingest.reasons import Reason
from varve.model.errors import BadRecord

# A Confluent schema registry frame: this byte, then the schema's number in four.
_CONFLUENT = b"\x00"


class Decoder:
    """Decodes messages; remembers identities it has computed. Not safe to share by threads."""

    def __init__(self) -> None:
        self._json = JsonReader()

    def samples(self, message: bytes | None, max_bytes: int) -> Block:
        """A message of samples. Never raises: what cannot be stored is in `rejects`."""
        try:
            body = _body(message, max_bytes)
        except BadRecord as bad:
            return refused(Reason(bad.reason), bad.detail, message or b"")
        if body.startswith(arrow_format.MAGIC):
            return arrow_format.read(body)
        return self._json.read(body)

    def definitions(self, message: bytes | None, max_bytes: int) -> Block:
        """A message of nothing but definitions of series. Never raises, like `samples`."""
        try:
            body = _body(message, max_bytes)
        except BadRecord as bad:
            return refused(Reason(bad.reason), bad.detail, message or b"")
        if body.startswith(arrow_format.MAGIC):
            return arrow_format.read_definitions(body)
        return self._json.read_definitions(body)


def _body(message: bytes | None, max_bytes: int) -> bytes:
    """Raises BadRecord for what is of no format."""
    if not message:
        raise BadRecord(Reason.MALFORMED, "the message is empty")
    if len(message) > max_bytes:
        text = f"{len(message)} bytes, over the {max_bytes} allowed"
        raise BadRecord(Reason.MESSAGE_TOO_LARGE, text)
    if message.startswith(_CONFLUENT):
        text = "framed for a schema registry; send plain JSON or Arrow IPC"
        raise BadRecord(Reason.MALFORMED, text)
    return message
