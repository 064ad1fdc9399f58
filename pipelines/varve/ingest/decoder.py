"""Any bytes to samples or a reason: expands what is compressed, then finds the format of a message
by its first bytes.
"""

from __future__ import annotations

import gzip
import io
import zlib

import zstandard

from varve.ingest import arrow_codec
from varve.ingest.decoded import Block, refused
from varve.ingest.json_codec import JsonReader
from varve.ingest.reject_reasons import Reason
from varve.model.errors import BadRecord

# A Confluent schema registry frame: this byte, then the schema's number in four.
_CONFLUENT = b"\x00"
# What a zstd frame may ask for as its window: the most any level below --ultra uses.
_ZSTD_WINDOW = 8 * 2**20
# Of a frame: the longest header. Of a skippable one: its magic numbers, without the last half byte.
# Source: RFC 8878, sections 3.1.1 and 3.1.2.
_ZSTD_HEADER = 18
_ZSTD_SKIPPABLE = 0x184D2A5
# First bytes of both. Sources: RFC 1952, section 2.3.1; RFC 8878, section 3.1.1.
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def encoding_of(message: bytes | None) -> str | None:
    """How a message is compressed whose header is no longer there: no body of a message begins
    like gzip or zstd.
    """
    if not message:
        return None
    if message.startswith(_GZIP_MAGIC):
        return "gzip"
    return "zstd" if message.startswith(_ZSTD_MAGIC) else None


class Decoder:
    """Decodes messages; remembers identities it has computed. Not safe to share by threads.

    encoding: the message's header content-encoding, gzip or zstd; None: not compressed. max_bytes:
    longest message taken, after expansion too.
    """

    def __init__(self) -> None:
        self._json = JsonReader()
        self.expanded_bytes = 0
        """Size of the last message that was of a size allowed, once expanded."""

    def samples(self, message: bytes | None, max_bytes: int, encoding: str | None = None) -> Block:
        """A message of samples. Never raises: what cannot be stored is in `rejects`."""
        try:
            body = _body(message, max_bytes, encoding)
        except BadRecord as bad:
            return refused(Reason(bad.reason), bad.detail, message or b"")
        self.expanded_bytes = len(body)
        if body.startswith(arrow_codec.MAGIC):
            return arrow_codec.read(body)
        return self._json.read(body)

    def definitions(
        self, message: bytes | None, max_bytes: int, encoding: str | None = None
    ) -> Block:
        """A message of nothing but definitions of series. Never raises, like `samples`."""
        try:
            body = _body(message, max_bytes, encoding)
        except BadRecord as bad:
            return refused(Reason(bad.reason), bad.detail, message or b"")
        self.expanded_bytes = len(body)
        if body.startswith(arrow_codec.MAGIC):
            return arrow_codec.read_definitions(body)
        return self._json.read_definitions(body)


def _body(message: bytes | None, max_bytes: int, encoding: str | None) -> bytes:
    """Raises BadRecord for what is of no format."""
    if not message:
        raise BadRecord(Reason.MALFORMED, "the message is empty")
    if len(message) > max_bytes:
        text = f"{len(message)} bytes, over the {max_bytes} allowed"
        raise BadRecord(Reason.MESSAGE_TOO_LARGE, text)
    body = message if encoding is None else _expand(message, max_bytes, encoding)
    if body.startswith(_CONFLUENT):
        text = "framed for a schema registry; send plain JSON or Arrow IPC"
        raise BadRecord(Reason.MALFORMED, text)
    return body


def _expand(message: bytes, max_bytes: int, encoding: str) -> bytes:
    """No more than max_bytes + 1 are ever expanded. Raises BadRecord."""
    try:
        match encoding.lower():
            case "gzip":
                with gzip.GzipFile(fileobj=io.BytesIO(message)) as members:
                    body = members.read(max_bytes + 1)
            case "zstd":
                expander = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
                source = io.BytesIO(message)
                with expander.stream_reader(source, read_across_frames=True) as stream:
                    body = stream.read(max_bytes + 1)
                if len(body) <= max_bytes:
                    _require_whole_frames(message)
            case _:
                text = f"content-encoding {encoding!r} is not gzip or zstd"
                raise BadRecord(Reason.MALFORMED, text)
    except EOFError as err:
        raise BadRecord(Reason.MALFORMED, f"not {encoding}: it ends too early") from err
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as err:
        raise BadRecord(Reason.MALFORMED, f"not {encoding}: {err}") from err
    if len(body) > max_bytes:
        text = f"more than the {max_bytes} bytes allowed, once expanded"
        raise BadRecord(Reason.MESSAGE_TOO_LARGE, text)
    if not body:
        raise BadRecord(Reason.MALFORMED, "the message is empty, once expanded")
    return body


def _require_whole_frames(message: bytes) -> None:
    """Raises EOFError if the last zstd frame is cut: the library then gives what it has.

    Source: RFC 8878, section 3.1.1.
    """
    at = 0
    while at < len(message):
        head = message[at : at + _ZSTD_HEADER]
        if int.from_bytes(head[:4], "little") >> 4 == _ZSTD_SKIPPABLE:
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        at += zstandard.frame_header_size(head)
        last = False
        while not last:
            block = int.from_bytes(message[at : at + 3], "little")
            last, run, size = bool(block & 1), block >> 1 & 3 == 1, block >> 3
            at += 3 + (1 if run else size)
            if at > len(message):
                raise EOFError
        if zstandard.get_frame_parameters(head).has_checksum:
            at += 4
    if at > len(message):
        raise EOFError
