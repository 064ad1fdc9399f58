"""The wire formats that ingest reads: one registry. A new format is a module and an entry here.

A message says its format by its header content-type; where that says nothing we know, the bytes
decide: the first codec in the order of CODECS that recognises them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from varve.ingest.arrow_codec import ArrowCodec
from varve.ingest.decoded import Block
from varve.ingest.json_codec import JsonCodec
from varve.kafka.message import Headers


class Codec(Protocol):
    """One wire format. May remember what it has decoded; not safe to share by threads.

    `samples` and `definitions` get a body that is not compressed and all headers of its message.
    They never raise for bad input: what cannot be stored is in the block's rejects.
    """

    content_types: ClassVar[frozenset[str]]
    """Media types of the format, lower case, without parameters."""
    schema_files: ClassVar[tuple[str, ...]]
    """The files under schemas/wire that describe it."""

    def recognises(self, body: bytes) -> bool:
        """Whether the body is of this format, by its first bytes."""
        ...

    def samples(self, body: bytes, headers: Headers) -> Block:
        """Decodes a message of samples, which may bring definitions too."""
        ...

    singles_begin: ClassVar[bytes | None]
    """The first byte of bodies that may be `singles`, if any may; no other codec recognises one."""

    def may_be_single(self, body: bytes) -> bool:
        """Whether a body of that first byte may be one of `singles`: a quick look at its end."""
        ...

    def singles(self, bodies: Sequence[bytes]) -> Block | None:
        """Decodes bodies that hold one sample each, all at once, in their order; None if one of
        them holds anything else.
        """
        ...

    def definitions(self, body: bytes, headers: Headers) -> Block:
        """Decodes a message of nothing but definitions of series."""
        ...


# The last one takes whatever no other recognises, and says what is wrong with it.
CODECS: tuple[Callable[[], Codec], ...] = (ArrowCodec, JsonCodec)


class Codecs:
    """One of each codec. Not safe to share by threads."""

    def __init__(self) -> None:
        self._all = [make() for make in CODECS]
        self._by_content_type: Mapping[str, Codec] = {
            content_type: codec for codec in self._all for content_type in codec.content_types
        }
        self.of_singles: Mapping[int, Codec] = {
            codec.singles_begin[0]: codec for codec in self._all if codec.singles_begin
        }
        """By the first byte of messages without headers that may be `singles`."""

    def of(self, body: bytes, content_type: str | None) -> Codec:
        """The codec of a message. content_type: its header, as the producer wrote it."""
        if content_type is not None:
            media_type = content_type.partition(";")[0].strip().lower()
            if (named := self._by_content_type.get(media_type)) is not None:
                return named
        return next((c for c in self._all if c.recognises(body)), self._all[-1])
