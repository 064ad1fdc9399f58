"""The canonical texts of many definitions in a kernel, from the columns of an Arrow batch.

It does what varve/model/identity.py does for definitions that need no second look: names sorted,
none empty, twice or with a character that is quoted, and no empty value. A batch with any other is
left to it.
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline, kernel

_QUOTE, _BACKSLASH, _NEWLINE = 0x22, 0x5C, 0x0A
_COMMA, _EQUALS, _OPEN, _CLOSE, _LETTER_N = 0x2C, 0x3D, 0x7B, 0x7D, 0x6E

# Columns of `sizes`: how many labels a series has, how long its longest name and value are.
LABELS, NAME_BYTES, VALUE_BYTES = range(3)


@inline
def _is_name(data, begin, end):
    """Whether a text may be a name, and needs no quotes."""
    if end == begin:
        return False
    for at in range(begin, end):
        byte = data[at]
        if byte in (_QUOTE, _BACKSLASH, _NEWLINE, _COMMA, _EQUALS, _OPEN, _CLOSE):
            return False
    return True


@inline
def _is_metric_label(data, begin, end):
    if end - begin != 8:
        return False
    for n, byte in enumerate((95, 95, 110, 97, 109, 101, 95, 95)):
        if data[begin + n] != byte:
            return False
    return True


@inline
def _sorts_before(data, begin, end, other_end):
    """Whether the text from begin to end sorts before that from end to other_end, by bytes, which
    is the order of code points, too.
    """
    size = min(end - begin, other_end - end)
    for n in range(size):
        if data[begin + n] != data[end + n]:
            return data[begin + n] < data[end + n]
    return end - begin < other_end - end


@kernel(
    "boolean(const int32[::1], const uint8[::1], const int32[::1], const int32[::1],"
    " const uint8[::1], const int32[::1], const uint8[::1], uint8[::1], int64[::1], int64[:,::1])"
)
def write_texts(
    metric_ends: np.ndarray,
    metrics: np.ndarray,
    tag_ends: np.ndarray,
    key_ends: np.ndarray,
    keys: np.ndarray,
    item_ends: np.ndarray,
    items: np.ndarray,
    texts: np.ndarray,
    ends: np.ndarray,
    sizes: np.ndarray,
) -> bool:
    """Writes the canonical text of each series behind those before it. Returns False as soon as one
    needs a second look. X_ends: the offsets of an Arrow column, which begin at its first text.
    """
    size = 0
    for row in range(len(ends)):
        begin, end = metric_ends[row], metric_ends[row + 1]
        if not _is_name(metrics, begin, end):
            return False
        for at in range(begin, end):
            texts[size] = metrics[at]
            size += 1
        sizes[row, NAME_BYTES] = end - begin
        sizes[row, VALUE_BYTES] = 0
        sizes[row, LABELS] = tag_ends[row + 1] - tag_ends[row]
        texts[size] = _OPEN
        size += 1
        for tag in range(tag_ends[row], tag_ends[row + 1]):
            k0, k1 = key_ends[tag], key_ends[tag + 1]
            v0, v1 = item_ends[tag], item_ends[tag + 1]
            if v1 == v0 or not _is_name(keys, k0, k1) or _is_metric_label(keys, k0, k1):
                return False
            if tag > tag_ends[row]:
                if not _sorts_before(keys, key_ends[tag - 1], k0, k1):
                    return False
                texts[size] = _COMMA
                size += 1
            for at in range(k0, k1):
                texts[size] = keys[at]
                size += 1
            texts[size] = _EQUALS
            texts[size + 1] = _QUOTE
            size += 2
            for at in range(v0, v1):
                byte = items[at]
                if byte in (_QUOTE, _BACKSLASH, _NEWLINE):
                    texts[size] = _BACKSLASH
                    size += 1
                    if byte == _NEWLINE:
                        byte = np.uint8(_LETTER_N)
                texts[size] = byte
                size += 1
            texts[size] = _QUOTE
            size += 1
            sizes[row, NAME_BYTES] = max(sizes[row, NAME_BYTES], k1 - k0)
            sizes[row, VALUE_BYTES] = max(sizes[row, VALUE_BYTES], v1 - v0)
        texts[size] = _CLOSE
        size += 1
        ends[row] = size
    return True
