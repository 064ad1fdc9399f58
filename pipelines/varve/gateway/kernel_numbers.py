"""Decimal numbers in kernels, to the double that is nearest to each.

Source: Lemire, "Number Parsing at a Gigabyte per Second", Software: Practice and Experience 51
(2021), after Eisel.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from varve.gateway.kernel_bytes import load8
from varve.model.compiled import inline

_LEAST_POWER, _MOST_POWER = -342, 308
_MOST_DIGITS = 19
_MOST_EXPONENT = 10_000
_MANTISSA_BITS = 52
_ROUNDED_BITS = np.uint64(0xFFFFFFFFFFFFFFFF >> (_MANTISSA_BITS + 3))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

_PLUS, _MINUS, _POINT, _ZERO = 0x2B, 0x2D, 0x2E, 0x30


def _powers_of_five() -> np.ndarray:
    """The highest 128 bits of each power, negative ones rounded up; high word, then low word."""
    found = []
    for power in range(_LEAST_POWER, _MOST_POWER + 1):
        if power < 0:
            divisor = 5**-power
            size = (divisor - 1).bit_length()
            bits = size + 127 if power >= -27 else 2 * size + 128
            value = (1 << bits) // divisor + 1
            value >>= max(value.bit_length() - 128, 0)
        else:
            value = 5**power
            shift = 128 - value.bit_length()
            value = value << shift if shift > 0 else value >> -shift
        found.append((value >> 64, value & 0xFFFFFFFFFFFFFFFF))
    return np.array(found, np.uint64)


_POWERS = _powers_of_five()


@intrinsic
def _high(_typing_context, left, right):
    """The upper half of the 128-bit product of two words."""

    def codegen(_context, builder, _signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _leading_zeros(_typing_context, word):
    def codegen(_context, builder, _signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def trailing_zeros(_typing_context, word):
    """Zero bits below the lowest one of a word; 64 for 0."""

    def codegen(_context, builder, _signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def _as_double(_typing_context, word):
    def codegen(_context, builder, _signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), codegen


@inline
def _nearest(digits, power):
    """digits * 10**power, rounded to even, and whether it could be told: it can but for subnormals,
    what is too large, and a few that are too near to the middle of two doubles.
    """
    if digits == np.uint64(0):
        return 0.0, True
    if power < _LEAST_POWER or power > _MOST_POWER:
        return 0.0, False
    shift = _leading_zeros(digits)
    digits <<= shift
    row = power - _LEAST_POWER
    upper = _high(digits, _POWERS[row, 0])
    lower = digits * _POWERS[row, 0]
    if upper & _ROUNDED_BITS == _ROUNDED_BITS:
        more = _high(digits, _POWERS[row, 1])
        lower += more
        if more > lower:
            upper += np.uint64(1)
    if lower == _ALL and not -27 <= power <= 55:
        return 0.0, False
    top = upper >> np.uint64(63)
    dropped = top + np.uint64(64 - _MANTISSA_BITS - 3)
    mantissa = upper >> dropped
    exponent = ((217_706 * power) >> 16) + 63 + np.int64(top) - np.int64(shift) + 1_023
    if exponent <= 0:
        return 0.0, False
    if (
        lower <= np.uint64(1)
        and -4 <= power <= 23
        and mantissa & np.uint64(3) == np.uint64(1)
        and mantissa << dropped == upper
    ):
        mantissa -= np.uint64(1)  # in the middle of two doubles: the even one
    mantissa += mantissa & np.uint64(1)
    mantissa >>= np.uint64(1)
    if mantissa >= np.uint64(2 << _MANTISSA_BITS):
        mantissa = np.uint64(1 << _MANTISSA_BITS)
        exponent += 1
    if exponent >= 0x7FF:
        return 0.0, False
    mantissa &= np.uint64((1 << _MANTISSA_BITS) - 1)
    return _as_double(mantissa | np.uint64(exponent) << np.uint64(_MANTISSA_BITS)), True


@inline
def _is_word(data, at, first, second, third):
    return (
        load8(data, at) == first and load8(data, at + 1) == second and load8(data, at + 2) == third
    )


@inline
def decimal(data, begin, end):
    """The number that data[begin:end] is in decimal, and whether it could be told.

    If it could, it is the one that Python's float gives; NaN, Inf, +Inf and -Inf are told in this
    spelling. What could not be told may be a number or none.
    """
    at = begin
    is_negative = False
    if at < end and (load8(data, at) == _MINUS or load8(data, at) == _PLUS):
        is_negative = load8(data, at) == _MINUS
        at += 1
    if end - at == 3:
        if _is_word(data, at, 0x49, 0x6E, 0x66):
            return -np.inf if is_negative else np.inf, True
        if at == begin and _is_word(data, at, 0x4E, 0x61, 0x4E):
            return np.nan, True
    digits = np.uint64(0)
    count = np.int64(0)
    significant = np.int64(0)
    power = np.int64(0)
    has_point = False
    while at < end:
        byte = load8(data, at)
        digit = byte - _ZERO
        if 0 <= digit <= 9:
            count += 1
            if significant > 0 or digit > 0:
                significant += 1
                if significant > _MOST_DIGITS:
                    return 0.0, False
            digits = digits * np.uint64(10) + np.uint64(digit)
            if has_point:
                power -= 1
        elif byte == _POINT and not has_point:
            has_point = True
        else:
            break
        at += 1
    if count == 0:
        return 0.0, False
    if at < end and (load8(data, at) | 0x20) == 0x65:
        at += 1
        falls = False
        if at < end and (load8(data, at) == _MINUS or load8(data, at) == _PLUS):
            falls = load8(data, at) == _MINUS
            at += 1
        if at >= end:
            return 0.0, False
        exponent = np.int64(0)
        while at < end:
            digit = load8(data, at) - _ZERO
            if not 0 <= digit <= 9 or exponent > _MOST_EXPONENT:
                return 0.0, False
            exponent = exponent * 10 + digit
            at += 1
        power += -exponent if falls else exponent
    if at < end:
        return 0.0, False
    found, is_told = _nearest(digits, power)
    return -found if is_negative else found, is_told
