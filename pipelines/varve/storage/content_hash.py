"""A hash of rows that does not depend on their order: sets of equal rows have equal hashes, others
differ but for one chance in 2^64.

Every value of every column counts, bit by bit. The hash of a row is mixed from those of its values,
that of the set is the sum of its rows'.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E37_79B9_7F4A_7C15)
_NULL = np.uint64(0x2545_F491_4F6C_DD1D)
_MASK = (1 << 64) - 1


def content_hash(rows: pa.Table) -> int:
    """The hash of the rows, 0 to 2^64 - 1; columns count in their order."""
    return int(row_hashes(rows).sum(dtype=np.uint64)) & _MASK if rows.num_rows else 0


def row_hashes(rows: pa.Table) -> Hashes:
    """The hash of each row. TypeError for a column of a type that no table has."""
    columns = [column.combine_chunks() for column in rows.columns]
    return _combined([_hashes(column) for column in columns], rows.num_rows)


def _hashes(values: pa.Array) -> Hashes:
    kind = values.type
    if isinstance(values, pa.ChunkedArray):  # of several chunks that could not be one
        return np.concatenate([_hashes(chunk) for chunk in values.chunks])
    if pa.types.is_map(kind):
        return _of_lists(values, _combined([_hashes(values.keys), _hashes(values.items)], None))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _of_lists(values, _hashes(values.values))
    if pa.types.is_struct(kind):
        fields = [_hashes(values.field(i)) for i in range(kind.num_fields)]
        return _or_null(values, _combined(fields, len(values)))
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _of_texts(values)
    if pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).fill_null(0.0)
        bits = numbers.to_numpy(zero_copy_only=False).view(np.uint64)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        bits = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        raise TypeError(f"no hash of {kind}")
    return _or_null(values, _mixed(bits))


def _of_texts(values: pa.Array) -> Hashes:
    coded = values.fill_null(b"" if pa.types.is_binary(values.type) else "").dictionary_encode()
    words = [
        hashlib.blake2b(v if isinstance(v, bytes) else v.encode(), digest_size=8).digest()
        for v in coded.dictionary.to_pylist()
    ]
    table = np.frombuffer(b"".join(words), np.uint64)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return _or_null(values, table[codes] if len(table) else np.zeros(len(values), np.uint64))


def _of_lists(values: pa.Array, elements: Hashes) -> Hashes:
    """elements: of all lists together. Their places count."""
    offsets = values.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = np.diff(offsets)
    places = np.arange(offsets[0], offsets[-1]) - np.repeat(offsets[:-1], lengths)
    placed = _mixed(elements[offsets[0] : offsets[-1]] ^ _mixed(places.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(placed, dtype=np.uint64)])
    ends = offsets - offsets[0]
    totals = sums[ends[1:]] - sums[ends[:-1]]
    return _or_null(values, _mixed(totals ^ _mixed(lengths.astype(np.uint64))))


def _combined(columns: list[Hashes], rows: int | None) -> Hashes:
    total = np.zeros(len(columns[0]) if rows is None else rows, np.uint64)
    for column in columns:
        total = _mixed(total + _STEP ^ column)
    return total


def _or_null(values: pa.Array, hashes: Hashes) -> Hashes:
    if not values.null_count:
        return hashes
    return np.where(values.is_null().to_numpy(zero_copy_only=False), _NULL, hashes)


def _mixed(bits: Hashes) -> Hashes:
    """Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", mix64."""
    bits = bits + _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    mixed: Hashes = bits ^ (bits >> np.uint64(31))
    return mixed
