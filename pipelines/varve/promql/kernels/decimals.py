"""Writes the shortest decimal digits of a float64, as Go prints them.

The digits are those of the shortest decimal in the float's rounding interval, the nearest of
several. Source: Raffaello Giulietti, "The Schubfach way to render doubles" (2020).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from varve.model.compiled import inline
from varve.promql.kernels.types import U8

Word = Any
"""A uint64. Arithmetic with plain integers would turn it into a float."""

_MIN_POWER, _MAX_POWER = -292, 325
_U0, _U1, _U2, _U4, _U10 = (np.uint64(n) for n in (0, 1, 2, 4, 10))
_U40 = np.uint64(40)
_HIDDEN = np.uint64(1 << 52)
_FRACTION = np.uint64((1 << 52) - 1)
_LOW_WORD = (1 << 64) - 1


def _log2_of_power_of_10(k: int) -> int:
    """floor(log2(10**k))."""
    return (k * 1741647) >> 19


def _power_table() -> tuple[Any, Any]:
    """High and low words of ceil(10**k * 2**(127 - floor(log2(10**k)))), k from _MIN_POWER."""
    high, low = [], []
    for k in range(_MIN_POWER, _MAX_POWER):
        shift = 127 - _log2_of_power_of_10(k)
        if k >= 0:
            scaled = -((-(10**k) << shift) if shift >= 0 else (-(10**k)) >> -shift)
        else:
            scaled = -(-(1 << shift) // 10**-k)
        high.append(scaled >> 64)
        low.append(scaled & _LOW_WORD)
    return np.array(high, np.uint64), np.array(low, np.uint64)


_POWER_HIGH, _POWER_LOW = _power_table()


def _mul_high_typed(_context: Any, _a: Any, _b: Any) -> Any:
    """The high 64 bits of the product of two uint64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        x, y = (builder.zext(argument, wide) for argument in arguments)
        product = builder.mul(x, y)
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


_mul_high: Any = intrinsic(_mul_high_typed)


@inline
def _round_to_odd(high: Word, low: Word, c: Word) -> Word:
    """c * (high, low) / 2**128, the last bit set if anything was cut off."""
    x1 = _mul_high(low, c)
    y0 = high * c
    y1 = _mul_high(high, c)
    z = y0 + x1
    if z < y0:
        y1 += _U1
    if z > _U1:
        y1 |= _U1
    return y1


@inline
def shortest(bits: Word) -> tuple[Word, Word]:
    """(digits, exponent) with the value digits * 10**exponent, for a positive finite float."""
    fraction = bits & _FRACTION
    biased = np.int64(bits >> np.uint64(52)) & np.int64(0x7FF)
    if biased != 0:
        c = _HIDDEN | fraction
        q = biased - 1075
        if -53 < q <= 0 and (c & ((_U1 << np.uint64(-q)) - _U1)) == _U0:
            return c >> np.uint64(-q), np.int64(0)
    else:
        c = fraction
        q = np.int64(-1074)
    odd = c & _U1
    closer = fraction == _U0 and biased > 1
    c4 = _U4 * c
    left = c4 - (_U1 if closer else _U2)
    right = c4 + _U2
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    high, low = _POWER_HIGH[-k - _MIN_POWER], _POWER_LOW[-k - _MIN_POWER]
    lower = _round_to_odd(high, low, left << h) + odd
    middle = _round_to_odd(high, low, c4 << h)
    upper = _round_to_odd(high, low, right << h) - odd
    s = middle >> _U2
    if s >= _U10:
        tenth = s // _U10
        below = lower <= _U40 * tenth
        above = _U40 * tenth + _U40 <= upper
        if below != above:
            return tenth + (_U1 if above else _U0), k + 1
    below = lower <= _U4 * s
    above = _U4 * s + _U4 <= upper
    if below != above:
        return s + (_U1 if above else _U0), k
    half = _U4 * s + _U2
    up = middle > half or (middle == half and (s & _U1) != _U0)
    return s + (_U1 if up else _U0), k


@inline
def write_digits(buffer: U8, at: int, number: Word, width: int) -> int:
    """Writes a uint64 in decimal, zero-padded to `width`; returns where it ends."""
    length = 1
    limit = _U10
    while number >= limit and length < 20:
        length += 1
        if length < 20:
            limit *= _U10
    length = max(length, width)
    for i in range(at + length - 1, at - 1, -1):
        quotient = number // _U10
        buffer[i] = np.uint8(48) + np.uint8(number - quotient * _U10)
        number = quotient
    return at + length


@inline
def write_float(buffer: U8, at: int, value: float, bits: Word) -> int:
    """Writes a float as Go's strconv does with format 'f', or 'e' below 1e-6 and from 1e21 on.

    bits: those of `value`. Takes up to 25 bytes; returns where they end.
    """
    if math.isnan(value):
        buffer[at], buffer[at + 1], buffer[at + 2] = 78, 97, 78
        return at + 3
    if bits >> np.uint64(63) != _U0:
        buffer[at] = 45
        at += 1
        value = -value
        bits &= np.uint64(0x7FFFFFFFFFFFFFFF)
    elif math.isinf(value):
        buffer[at] = 43
        at += 1
    if math.isinf(value):
        buffer[at], buffer[at + 1], buffer[at + 2] = 73, 110, 102
        return at + 3
    if value == 0.0:
        buffer[at] = 48
        return at + 1
    digits, exponent = shortest(bits)
    if exponent == 0 and value < 1e21:
        return write_digits(buffer, at, digits, 1)
    while True:
        tenth = digits // _U10
        if digits != tenth * _U10:
            break
        digits = tenth
        exponent += 1
    if value < 1e-6 or value >= 1e21:
        return _write_scientific(buffer, at, digits, exponent)
    if exponent >= 0:
        at = write_digits(buffer, at, digits, 1)
        for i in range(exponent):
            buffer[at + i] = 48
        return at + exponent
    # Write at least one digit more than there are decimals, then put the point between them.
    end = write_digits(buffer, at, digits, 1 - exponent)
    for i in range(end, end + exponent, -1):
        buffer[i] = buffer[i - 1]
    buffer[end + exponent] = 46
    return end + 1


@inline
def _write_scientific(buffer: U8, at: int, digits: Word, exponent: int) -> int:
    end = write_digits(buffer, at + 1, digits, 1)
    count = end - at - 1
    buffer[at] = buffer[at + 1]
    if count > 1:
        buffer[at + 1] = 46
    else:
        end -= 1
    buffer[end] = 101
    power = exponent + count - 1
    buffer[end + 1] = 45 if power < 0 else 43
    return write_digits(buffer, end + 2, np.uint64(abs(power)), 2)


@inline
def write_seconds(buffer: U8, at: int, ms: int) -> int:
    """Writes milliseconds as seconds, with three decimals unless they are all zero."""
    if ms < 0:
        buffer[at] = 45
        at += 1
        ms = -ms
    at = write_digits(buffer, at, np.uint64(ms // 1000), 1)
    rest = ms % 1000
    if rest != 0:
        buffer[at] = 46
        at = write_digits(buffer, at + 1, np.uint64(rest), 3)
    return at
