"""Values of samples as integers, in files that stay: value = (scaled + shift) / divisor.

Most metrics count something, or are measured to a few decimals: as integers they pack into the few
bits by which one sample differs from the next. `split` finds a divisor for each series, the power
of ten or of two that makes its values integers, and keeps a value as it is where the formula does
not give its very bits. `joined` puts the values together again. Readers of the tables have the
formula in the view raw. docs/adr/0029 has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.compiled import inline, kernel

VALUE: Final = "value"
SCALED, SHIFT, DIVISOR = COLUMNS = ("scaled", "shift", "divisor")
"""Columns that a file may have beside the value, all NULL where the value is as it is. Where they
are not, value is NULL; where all four are, the sample is a staleness marker.
"""

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]

# Integers up to here are doubles.
_EXACT = float(1 << 53)
_MOST_DECIMALS = 1e9
# Beyond this many bits integers could overflow when the shift is added.
_MOST_BITS = 60
_LARGEST = float(1 << _MOST_BITS)
# Exponent of a power of two that can be a divisor, away from Inf and subnormal numbers.
_MOST_EXPONENT = 1000
_NONE = np.int64(np.iinfo(np.int64).min)
_EXPONENT = np.int64(0x7FF0000000000000)
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)
# Bits a value from which integers are no smaller than a double, which zstd shortens a little.
_PLAIN_BITS = 60
# A series costs about this many bits of its own: a shift, and where it begins.
_SERIES_BITS = 100


def split(rows: pa.Table) -> pa.Table:
    """Rows of samples, sorted by series_id and ts, with COLUMNS appended, and value NULL where
    these stand for it.
    """
    column = rows.column(VALUE).combine_chunks()
    ids = np.ascontiguousarray(rows.column("series_id").to_numpy())
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    values = _numbers(column)
    *columns, is_scaled = _split(ids, values.view(np.int64), is_null)
    at = rows.schema.get_field_index(VALUE)
    rows = rows.set_column(at, rows.schema.field(at), pa.array(values, mask=is_null | is_scaled))
    for name, numbers in zip(COLUMNS, columns, strict=True):
        rows = rows.append_column(name, pa.array(numbers, mask=~is_scaled))
    return rows


def read_columns(
    parquet: pq.ParquetFile,
    names: Sequence[str],
    row_groups: Sequence[int] | None = None,
    *,
    use_threads: bool = False,
) -> pa.Table:
    """Some columns of a file, of all row groups by default, its values put together.

    Columns that the file was written without are left out. Raises what pyarrow raises for a
    damaged file.
    """
    there = parquet.schema_arrow.names
    wanted = [name for name in names if name in there]
    is_split = VALUE in wanted and SCALED in there
    columns = [*wanted, *COLUMNS] if is_split else wanted
    if row_groups is None:
        rows = parquet.read(columns, use_threads=use_threads)
    else:
        rows = parquet.read_row_groups(row_groups, columns, use_threads=use_threads)
    return joined(rows) if is_split else rows


def joined(rows: pa.Table) -> pa.Table:
    """The rows without COLUMNS, each value put together again to the bit: the reverse of
    `split`.
    """
    plain, scaled, shift, divisor = (
        rows.column(name).combine_chunks() for name in (VALUE, *COLUMNS)
    )
    rows = rows.drop_columns(list(COLUMNS))
    if scaled.null_count == len(scaled):
        return rows
    is_scaled = scaled.is_valid().to_numpy(zero_copy_only=False)
    values = _join(_numbers(plain), is_scaled, _numbers(scaled), _numbers(shift), _numbers(divisor))
    stale = None
    if plain.null_count + scaled.null_count > len(plain):
        stale = ~is_scaled & plain.is_null().to_numpy(zero_copy_only=False)
    at = rows.schema.get_field_index(VALUE)
    return rows.set_column(at, rows.schema.field(at), pa.array(values, mask=stale))


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    """The numbers of a column, 0 for NULL. Of floating point numbers the bits are kept."""
    if column.null_count:
        column = column.fill_null(0)
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False))


@kernel(
    "float64[::1](const float64[::1], const boolean[::1], const int64[::1], const int64[::1],"
    " const float64[::1])"
)
def _join(
    plain: _Floats, is_scaled: _Mask, scaled: _Ints, shift: _Ints, divisor: _Floats
) -> _Floats:
    values = plain.copy()
    for i in range(len(values)):
        if is_scaled[i]:
            values[i] = np.float64(scaled[i] + shift[i]) / divisor[i]
    return values


@kernel("(const int64[::1], const int64[::1], const boolean[::1])")
def _split(ids: _Ints, bits: _Ints, is_null: _Mask) -> tuple[_Ints, _Ints, _Floats, _Mask]:
    """Goes on in each series from where the one before has ended, by its shift: no jump widens the
    integers of the blocks that two series share.
    """
    rows = len(ids)
    values = bits.view(np.float64)
    scaled, shift = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    divisor, is_scaled = np.zeros(rows, np.float64), np.zeros(rows, np.bool_)
    last = np.int64(0)
    begin = 0
    while begin < rows:
        end = begin + 1
        while end < rows and ids[end] == ids[begin]:
            end += 1
        by = _divisor(values[begin:end], bits[begin:end], is_null[begin:end])
        fits = 0
        first = np.int64(0)
        for i in range(begin, end if by > 0 else begin):
            integer = _NONE if is_null[i] else _integer(values[i], bits[i], by)
            if integer == _NONE:
                continue
            if fits == 0:
                first = integer
            scaled[i], divisor[i], is_scaled[i] = integer - first, by, True
            fits += 1
        cost = _packed_bits(scaled[begin:end], is_scaled[begin:end]) + _SERIES_BITS
        if cost >= _PLAIN_BITS * fits:
            is_scaled[begin:end] = False
        elif fits:
            start = last if abs(last) < _LARGEST else np.int64(0)
            for i in range(begin, end):
                if is_scaled[i]:
                    scaled[i] += start
                    shift[i] = first - start
                    last = scaled[i]
        begin = end
    return scaled, shift, divisor, is_scaled


@inline
def _integer(value: float, bits: int, divisor: float) -> np.int64:
    """The integer that divided by the divisor is the value, to the bit; _NONE if there is none."""
    product = value * divisor
    if not abs(product) < _LARGEST:  # nor is NaN
        return _NONE
    integer = np.int64(np.rint(product))
    if np.float64(integer) / divisor != value or (integer == 0 and bits != 0):
        return _NONE
    return integer


@inline
def _divisor(values: _Floats, bits: _Ints, is_null: _Mask) -> float:
    """The power of ten or of two by which a series becomes the smallest integers; 0 if they would
    be too large, or the series is constant.
    """
    ten = 1.0
    is_decimal = True
    most = 0.0
    lowest, highest = 5000, -5000
    before = np.int64(-1)
    changes = 0
    for i in range(len(values)):
        if is_null[i] or bits[i] == before:
            continue
        before = bits[i]
        changes += 1
        exponent = (bits[i] & _EXPONENT) >> np.int64(52)
        if exponent in (0, 0x7FF):  # zero, or a value that stays as it is
            continue
        value = values[i]
        most = max(most, abs(value))
        mantissa = (bits[i] & _MANTISSA) | (np.int64(1) << np.int64(52))
        zeros = 0
        while mantissa & np.int64(0xFF) == 0:
            mantissa >>= np.int64(8)
            zeros += 8
        while mantissa & np.int64(1) == 0:
            mantissa >>= np.int64(1)
            zeros += 1
        power = exponent - 1023
        lowest = min(lowest, power - 52 + zeros)
        highest = max(highest, power)
        while is_decimal:
            product = np.rint(value * ten)
            if abs(product) < _EXACT and product / ten == value:
                break
            ten *= 10.0
            is_decimal = ten <= _MOST_DECIMALS
    if changes < 2 or highest < lowest:
        return 0.0
    is_binary = highest - lowest < _MOST_BITS and abs(lowest) < _MOST_EXPONENT
    if is_decimal and (not is_binary or most * ten <= 2.0 ** (highest - lowest + 1)):
        return ten
    return 2.0**-lowest if is_binary else 0.0


@inline
def _packed_bits(integers: _Ints, there: _Mask) -> int:
    """About how many bits DELTA_BINARY_PACKED makes of them: in blocks of 32, as many each as the
    widest difference of neighbours takes.
    """
    total = 0
    before = np.int64(0)
    low = high = np.int64(0)
    held = 0
    for i in range(len(integers)):
        if there[i]:
            step = integers[i] - before
            before = integers[i]
            if held == 0:
                low = high = step
            low, high = min(low, step), max(high, step)
            held += 1
            if held == 32:
                total += 32 * _width(high - low)
                held = 0
    return total + held * _width(high - low)


@inline
def _width(number: np.int64) -> int:
    """Bits that a number takes."""
    bits = 0
    while number > 0:
        number >>= np.int64(1)
        bits += 1
    return bits
