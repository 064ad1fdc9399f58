"""Expands bodies by their content encoding, within a bound."""

from __future__ import annotations

import zlib

import zstandard

from varve.gateway.refusals import Malformed, Refused

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


def plain_body(body: bytes, encoding: str, most: int) -> bytes:
    """The content of a body. encoding: lower case, "" for none.

    Raises Malformed, and Refused: 415 for an encoding that is unknown, 413 if the content is over
    `most` bytes, before it takes more memory than that.
    """
    if encoding in ("", "identity"):
        found = body
    elif encoding in ("gzip", "x-gzip", "deflate"):
        found = _inflate(body, most)
    elif encoding == "zstd":
        found = _zstd(body, most)
    else:
        known = "gzip, deflate, zstd or identity"
        raise Refused(415, f"content-encoding is {known}, not {encoding[:40]!r}")
    if len(found) > most:
        raise Refused(413, f"the body expands to over the {most:,} bytes allowed")
    return found


def _inflate(body: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    room = most + 1
    rest = body
    while rest and room > 0:  # a body may be several members
        stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            parts.append(stream.decompress(rest, room))
        except zlib.error as err:
            raise Malformed(f"the body is not in gzip's format: {err}") from err
        room -= len(parts[-1])
        if room > 0 and not stream.eof:
            raise Malformed("the body is not in gzip's format: it is cut")
        rest = stream.unused_data
    return b"".join(parts)


def _zstd(body: bytes, most: int) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(body) as reader:
            found: bytes = reader.read(most + 1)
    except zstandard.ZstdError as err:
        raise Malformed(f"the body is not in zstd's format: {err}") from err
    return found
