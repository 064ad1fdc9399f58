"""Reading bytes in kernels: words at any offset, protobuf's variable integers, keyed hashes.

Offsets are not checked against the array, nor wrapped if negative: callers keep within it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from varve.model.compiled import inline

# Odd constants with as many ones as zeros, each byte with four ones.
_K0 = np.uint64(0x8EBC6AF09C88C6E3)
_K1 = np.uint64(0x589965CC75374CC3)
_K2 = np.uint64(0x1D8E4E27C47D124F)

_VARINT = 0
_FIXED64 = 1
_DELIMITED = 2
_FIXED32 = 5

MALFORMED = -1
"""An offset that says: these bytes are no protobuf."""


def _loader(bits, kind):
    """An intrinsic `load(data, at)` of a little-endian word at any byte offset."""

    @intrinsic
    def load(_typing_context, data, at):
        def codegen(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            place = builder.gep(array.data, [args[1]])
            found = builder.load(builder.bitcast(place, ir.IntType(bits).as_pointer()))
            found.align = 1
            wide = ir.IntType(64)
            return found if bits == 64 else builder.zext(found, wide)

        return kind(data, types.int64), codegen

    return load


load8 = _loader(8, types.int64)
"""The byte at an offset, 0 to 255."""
load32 = _loader(32, types.uint64)
load64 = _loader(64, types.uint64)


@intrinsic
def load_double(_typing_context, data, at):
    """The IEEE 754 double at any byte offset."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        found = builder.load(builder.bitcast(place, ir.DoubleType().as_pointer()))
        found.align = 1
        return found

    return types.float64(data, types.int64), codegen


@intrinsic
def fold(_typing_context, left, right):
    """The two halves of the 128-bit product of two words, xored."""

    def codegen(_context, builder, _signature, args):
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return builder.xor(builder.trunc(product, word), high)

    return types.uint64(types.uint64, types.uint64), codegen


@inline
def hash128(data, at, size, seed0, seed1):
    """128 bits that only who knows the seeds can make collide: two chains of multiplications."""
    length = np.uint64(size)
    a = seed0 ^ _K0
    b = seed1 ^ _K1
    if size >= 16:
        here = at
        last = at + size - 16
        while here < last:
            x = load64(data, here)
            y = load64(data, here + 8)
            a = fold(x ^ seed1, y ^ a)
            b = fold(x ^ b, y ^ seed0)
            here += 16
        x = load64(data, last)
        y = load64(data, last + 8)
    elif size >= 8:
        x = load64(data, at)
        y = load64(data, at + size - 8)
    elif size >= 4:
        x = load32(data, at)
        y = load32(data, at + size - 4)
    elif size > 0:
        x = np.uint64(
            load8(data, at) << 16 | load8(data, at + size // 2) << 8 | load8(data, at + size - 1)
        )
        y = np.uint64(0)
    else:
        x = y = np.uint64(0)
    a = fold(x ^ seed1, y ^ a)
    b = fold(x ^ b, y ^ seed0)
    return fold(a ^ length, b ^ _K2), fold(b ^ length ^ _K0, a ^ _K1)


@inline
def chain(a, b, first, second, seed0, seed1):
    """Adds the hash (first, second) of a text to that of the texts before it."""
    return fold(a ^ first, second ^ seed0), fold(b ^ second, first ^ seed1)


@inline
def varint(data, at, end):
    """A variable integer, as signed 64 bits, and the offset behind it; MALFORMED if it is none."""
    if at >= end:
        return np.int64(0), MALFORMED
    byte = load8(data, at)
    if byte < 0x80:
        return byte, at + 1
    found = np.uint64(byte & 0x7F)
    shift = np.uint64(7)
    at += 1
    while at < end and shift < np.uint64(70):
        byte = load8(data, at)
        at += 1
        found |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return np.int64(found), at
        shift += np.uint64(7)
    return np.int64(0), MALFORMED


@inline
def field(data, at, end):
    """Number and wire type of a field, and the offset behind its key; MALFORMED if it is none."""
    key, at = varint(data, at, end)
    number = key >> 3
    if at == MALFORMED or number <= 0 or number >= 1 << 29:
        return np.int64(0), np.int64(0), MALFORMED
    return number, key & 7, at


@inline
def skip(data, at, end, wire_type):
    """The offset behind a field's content; MALFORMED if there is none. Groups are refused."""
    if wire_type == _VARINT:
        _, at = varint(data, at, end)
        return at
    if wire_type == _FIXED64:
        at += 8
    elif wire_type == _DELIMITED:
        size, at = varint(data, at, end)
        if at == MALFORMED or size < 0 or size > end - at:
            return MALFORMED
        at += size
    elif wire_type == _FIXED32:
        at += 4
    else:
        return MALFORMED
    return at if at <= end else MALFORMED


@inline
def delimited(data, at, end):
    """Begin and end of the content of a length-delimited field; MALFORMED for both if cut."""
    size, at = varint(data, at, end)
    if at == MALFORMED or size < 0 or size > end - at:
        return MALFORMED, MALFORMED
    return at, at + size


@inline
def sample(data, at, end):
    """Value, time and start of a sample message, and whether it is well-formed.

    Both versions of remote write have the first two; 1.0 has no field of number 3, so a start there
    is an unknown field of a newer sender.
    """
    value = 0.0
    ts = np.int64(0)
    start = np.int64(0)
    while at < end:
        key = load8(data, at)
        if key == 0x09 and end - at >= 9:
            value = load_double(data, at + 1)
            at += 9
        elif key == 0x10:
            ts, at = varint(data, at + 1, end)
            if at == MALFORMED:
                return value, ts, start, False
        else:
            number, wire_type, at = field(data, at, end)
            if at == MALFORMED:
                return value, ts, start, False
            if number == 1:
                if wire_type != _FIXED64 or end - at < 8:
                    return value, ts, start, False
                value = load_double(data, at)
                at += 8
            elif number == 2 or (number == 3 and wire_type == _VARINT):
                if wire_type != _VARINT:
                    return value, ts, start, False
                content, at = varint(data, at, end)
                if number == 2:
                    ts = content
                else:
                    start = content
            else:
                at = skip(data, at, end, wire_type)
            if at == MALFORMED:
                return value, ts, start, False
    return value, ts, start, True
