"""Turns any message into samples or a reason: expands what is compressed, then lets the codec of
the message's format decode it.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import replace

import zstandard

from varve.ingest.codecs import Codec, Codecs
from varve.ingest.decoded import Block, refused
from varve.ingest.reject_reasons import Reason
from varve.kafka.message import Headers
from varve.model.errors import BadRecord
from varve.model.exceeded import Exceeded

# A Confluent schema registry frame: this byte, then the schema's number in four.
_CONFLUENT = b"\x00"
# What a zstd frame may ask for as its window: the most any level below --ultra uses.
_ZSTD_WINDOW = 8 * 2**20
_MESSAGE_LIMIT = "ingest.max_message_bytes"
# The longest header of a frame; the magic numbers of skippable frames, without the last half byte.
# Source: RFC 8878, sections 3.1.1 and 3.1.2.
_ZSTD_HEADER = 18
_ZSTD_SKIPPABLE = 0x184D2A5
# First bytes by encoding. Sources: RFC 1952, section 2.3.1; RFC 8878, section 3.1.1.
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
CONTENT_ENCODING, CONTENT_TYPE = "content-encoding", "content-type"


def encoding_headers(body: bytes | None) -> Headers:
    """The header content-encoding of a message whose headers are gone: no body of a message begins
    like gzip or zstd.
    """
    for encoding, magic in _MAGIC.items():
        if body and body.startswith(magic):
            return ((CONTENT_ENCODING, encoding.encode()),)
    return ()


class Decoder:
    """Decodes messages; remembers identities it has computed. Not safe to share by threads.

    max_bytes: the longest message taken, after expansion too. Of the headers, content-encoding
    (gzip or zstd; none: not compressed) and content-type are looked at here, in any case.
    """

    def __init__(self) -> None:
        self._codecs = Codecs()
        self.expanded_bytes = 0
        """Size of the last message once expanded; 0 if it was refused whole."""

    def samples(self, message: bytes | None, max_bytes: int, headers: Headers = ()) -> Block:
        """Decodes a message of samples. Never raises: what cannot be stored is in `rejects`."""
        try:
            body, codec = self._open(message, max_bytes, headers)
        except BadRecord as bad:
            return refused(bad, message or b"", headers)
        return _with_headers(codec.samples(body, headers), headers)

    def definitions(self, message: bytes | None, max_bytes: int, headers: Headers = ()) -> Block:
        """Decodes a message of nothing but definitions of series. Never raises, like `samples`."""
        try:
            body, codec = self._open(message, max_bytes, headers)
        except BadRecord as bad:
            return refused(bad, message or b"", headers)
        return _with_headers(codec.definitions(body, headers), headers)

    def may_be_single(self, message: bytes) -> bool:
        """Whether `singles` may take a message without headers, which is not empty."""
        codec = self._codecs.of_singles.get(message[0])
        return codec is not None and codec.may_be_single(message)

    def singles(self, messages: Sequence[bytes]) -> Block | None:
        """Decodes messages without headers that hold one sample each; for those of which
        `may_be_single` is true. None: one of them is something else.
        """
        return self._codecs.of_singles[messages[0][0]].singles(messages)

    def _open(self, message: bytes | None, max_bytes: int, headers: Headers) -> tuple[bytes, Codec]:
        """The body and who decodes it. Raises BadRecord."""
        self.expanded_bytes = 0
        content_type = None
        if headers:
            content_type = _header(headers, CONTENT_TYPE)
            body = _body(message, max_bytes, _header(headers, CONTENT_ENCODING))
        else:
            body = _body(message, max_bytes, None)
        self.expanded_bytes = len(body)
        return body, self._codecs.of(body, content_type)


def _with_headers(block: Block, headers: Headers) -> Block:
    """The block, whose rejects are read with the headers of their message, but are expanded."""
    kept = [(name, value) for name, value in headers if name.lower() != CONTENT_ENCODING]
    if not kept or not block.rejects:
        return block
    rejects = [replace(reject, headers=kept) for reject in block.rejects]
    return replace(block, rejects=rejects)


def _header(headers: Headers, name: str) -> str | None:
    """The value of the first header of that name, escaped where it is no UTF-8."""
    for key, value in headers:
        if key.lower() == name:
            return None if value is None else value.decode(errors="backslashreplace")
    return None


def _body(message: bytes | None, max_bytes: int, encoding: str | None) -> bytes:
    """The message, expanded. Raises BadRecord if it is empty, too long or of no format at all."""
    if not message:
        raise BadRecord(Reason.MALFORMED, "the message is empty")
    if len(message) > max_bytes:
        text = f"{len(message)} bytes, over the {max_bytes} allowed"
        exceeded = Exceeded(_MESSAGE_LIMIT, max_bytes, len(message))
        raise BadRecord(Reason.MESSAGE_TOO_LARGE, text, exceeded)
    body = message if encoding is None else _expand(message, max_bytes, encoding)
    if body.startswith(_CONFLUENT):
        text = "framed for a schema registry; send plain JSON or Arrow IPC"
        raise BadRecord(Reason.MALFORMED, text)
    return body


def _expand(message: bytes, max_bytes: int, encoding: str) -> bytes:
    """Expands a message, up to max_bytes + 1 bytes of it. Raises BadRecord."""
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
                text = f"content-encoding '{encoding}' is not gzip or zstd"
                raise BadRecord(Reason.MALFORMED, text)
    except EOFError as err:
        raise BadRecord(Reason.MALFORMED, f"not {encoding}: it ends too early") from err
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as err:
        raise BadRecord(Reason.MALFORMED, f"not {encoding}: {err}") from err
    if len(body) > max_bytes:
        text = f"more than the {max_bytes} bytes allowed, once expanded"
        raise BadRecord(Reason.MESSAGE_TOO_LARGE, text, Exceeded(_MESSAGE_LIMIT, max_bytes))
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
