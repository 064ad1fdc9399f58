"""Reads protobuf messages field by field, where there are few of them.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from varve.gateway.refusals import Malformed

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message."""

    number: int
    wire_type: int
    value: int
    """Of a variable or fixed integer, its bits, unsigned."""
    content: bytes
    """Of a delimited field."""
    raw: bytes
    """The field as it was written, its key before it."""

    def delimited(self) -> bytes:
        """The content. Raises Malformed if the field has another type."""
        if self.wire_type != DELIMITED:
            raise Malformed(f"field {self.number} has wire type {self.wire_type}, not {DELIMITED}")
        return self.content

    def varint(self) -> int:
        """The unsigned value. Raises Malformed if the field has another type."""
        if self.wire_type != VARINT:
            raise Malformed(f"field {self.number} has wire type {self.wire_type}, not {VARINT}")
        return self.value

    def double(self) -> float:
        """The value as a double. Raises Malformed if the field has another type."""
        if self.wire_type != FIXED64:
            raise Malformed(f"field {self.number} has wire type {self.wire_type}, not {FIXED64}")
        return float(struct.unpack("<d", struct.pack("<Q", self.value))[0])


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in their order. Raises Malformed; groups are refused."""
    at, end = 0, len(message)
    while at < end:
        begin = at
        key, at = read_varint(message, at)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise Malformed(f"there is no field {number}")
        if wire_type == VARINT:
            value, at = read_varint(message, at)
            yield Field(number, wire_type, value, b"", message[begin:at])
        elif wire_type == DELIMITED:
            size, at = read_varint(message, at)
            if size > end - at:
                raise Malformed(f"field {number} reaches over its message's end")
            at += size
            yield Field(number, wire_type, 0, message[at - size : at], message[begin:at])
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
            if size > end - at:
                raise Malformed(f"field {number} reaches over its message's end")
            value = int.from_bytes(message[at : at + size], "little")
            at += size
            yield Field(number, wire_type, value, b"", message[begin:at])
        else:
            raise Malformed(f"field {number} has wire type {wire_type}")


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer of 64 bits, and the offset behind it. Raises Malformed."""
    found = shift = 0
    for byte in message[at : at + 10]:
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & (1 << 64) - 1, at
        shift += 7
    raise Malformed("an integer is cut")


def signed(value: int) -> int:
    """What an unsigned value of 64 bits is as an int64."""
    return value - (1 << 64) if value >> 63 else value


def zigzag(value: int) -> int:
    """What a variable integer is as a sint32 or sint64."""
    return (value >> 1) ^ -(value & 1)


def varints(field: Field) -> list[int]:
    """The values of a repeated integer field, packed or one by one. Raises Malformed."""
    if field.wire_type == VARINT:
        return [field.value]
    packed = field.delimited()
    found, at = [], 0
    while at < len(packed):
        value, at = read_varint(packed, at)
        found.append(value)
    return found


def doubles(field: Field) -> tuple[float, ...]:
    """The values of a repeated double field, packed or one by one. Raises Malformed."""
    if field.wire_type == FIXED64:
        return (field.double(),)
    packed = field.delimited()
    if len(packed) % 8:
        raise Malformed(f"field {field.number} holds no whole number of doubles")
    return struct.unpack(f"<{len(packed) // 8}d", packed)


def delimited_field(number: int, content: bytes) -> bytes:
    """A field as it is written."""
    return write_varint(number << 3 | DELIMITED) + write_varint(len(content)) + content


def write_varint(value: int) -> bytes:
    """An unsigned integer as it is written."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
