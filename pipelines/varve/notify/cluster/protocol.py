"""What notifiers say to each other: frames of msgpack over TCP, each with its length before it."""

from __future__ import annotations

import asyncio
import struct

import msgspec

from varve.notify.records import Record

MOST_FRAME_BYTES = 64 << 20

_LENGTH = struct.Struct(">I")


class Member(msgspec.Struct, frozen=True, array_like=True):
    name: str
    """Of the process: another one after each start."""
    address: str
    """HOST:PORT at which others reach it."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The first frame of each side."""

    version: int
    label: str
    member: Member
    members: list[Member]


class Alive(msgspec.Struct, frozen=True, array_like=True, tag="alive"):
    """Sent every second: the sender is there, and whom it knows."""

    members: list[Member]


class State(msgspec.Struct, frozen=True, array_like=True, tag="state"):
    """Records that have changed, or all of them when a link begins."""

    records: list[Record]
    last: bool = False
    """Everything the sender had when the link began has been sent."""


Frame = Hello | Alive | State

VERSION = 1

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


class BadFrame(ValueError):
    """What came is no frame of ours."""


def encode(frame: Frame) -> bytes:
    payload = _encoder.encode(frame)
    return _LENGTH.pack(len(payload)) + payload


async def read(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises BadFrame, asyncio.IncompleteReadError at the end, OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MOST_FRAME_BYTES:
        raise BadFrame(f"a frame of {length} bytes")
    try:
        return _decoder.decode(await reader.readexactly(length))
    except (msgspec.DecodeError, msgspec.ValidationError) as err:
        raise BadFrame(str(err)) from None
