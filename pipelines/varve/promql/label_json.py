"""Writes label sets as JSON objects: few of them one by one, many by a compiled loop that holds
no interpreter lock, so that other queries go on beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.promql.interrupt import Check, checked, never
from varve.promql.kernels.label_json import objects_bytes, write_objects
from varve.promql.labels.label_table import Column, LabelTable

_FEW_ROWS: Final = 256
"""Up to here they are written one by one."""

_ROWS_A_BLOCK: Final = 16_384
_VALUES_A_PIECE: Final = 2_048
"""What is done between two checks, and while nobody else may run: less than a
millisecond."""

_ESCAPED: Final = re.compile(r'[\x00-\x1f"\\]')
"""Characters that JSON has no other way to write."""

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Block = tuple[Bytes, Offsets]
"""The objects of some rows, and where each one ends."""


def label_array(table: LabelTable, check: Check = never) -> bytes:
    """A JSON array of every row's labels. check: see interrupt.py."""
    if table.size <= _FEW_ROWS:
        return b"[" + b",".join(label_texts(table, check)) + b"]"
    parts = [buffer.tobytes() for buffer, _ in _blocks(table, check, commas=True)]
    return b"".join([b"[", *parts[:-1], parts[-1][:-1], b"]"])


def text_array(texts: Sequence[str], check: Check = never) -> bytes:
    """A JSON array of texts, such as the values of a label."""
    parts = []
    for begin in range(0, len(texts), _VALUES_A_PIECE):
        check()
        parts.append(_quoted("", texts[begin : begin + _VALUES_A_PIECE], between=",")[0])
    return b"".join([b"[", b",".join(parts), b"]"])


def label_buffer(table: LabelTable, check: Check = never) -> Block:
    """The JSON objects of all rows in one buffer; row i is at offsets[i]:offsets[i + 1]."""
    offsets = np.zeros(table.size + 1, dtype=np.int64)
    if table.size <= _FEW_ROWS:
        texts = label_texts(table, check)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return np.frombuffer(b"".join(texts), np.uint8), offsets
    buffers, row = [], 0
    for buffer, ends in _blocks(table, check, commas=False):
        offsets[row + 1 : row + 1 + len(ends)] = offsets[row] + ends
        row += len(ends)
        buffers.append(buffer)
    return np.concatenate(buffers), offsets


def label_texts(table: LabelTable, check: Check = never) -> list[bytes]:
    """The labels of every row as a JSON object."""
    quoted: dict[str, str] = {}

    def quote(text: str) -> str:
        known = quoted.get(text)
        if known is None:
            known = quoted[text] = json.dumps(_clean(text), ensure_ascii=False)
        return known

    return [
        ("{" + ",".join(f"{quote(name)}:{quote(value)}" for name, value in row) + "}").encode()
        for row in checked(table.labels(check), check)
    ]


def _blocks(table: LabelTable, check: Check, *, commas: bool) -> Iterator[Block]:
    """The objects of all rows, so many at a time. There is at least one row."""
    data, text_ends, numbers = _texts(table, check)
    for begin in range(0, table.size, _ROWS_A_BLOCK):
        check()
        rows = slice(begin, min(begin + _ROWS_A_BLOCK, table.size))
        texts = np.empty((rows.stop - begin, len(numbers)), dtype=np.int32)
        for k, (column, number_of) in enumerate(numbers):
            texts[:, k] = number_of[column.codes[rows]]
        buffer = np.empty(objects_bytes(texts, text_ends), np.uint8)
        ends = np.empty(len(texts), dtype=np.int64)
        end = write_objects(buffer, texts, data, text_ends, ends, commas)
        yield buffer[:end], ends


def _texts(
    table: LabelTable, check: Check
) -> tuple[Bytes, Offsets, list[tuple[Column, npt.NDArray[np.int32]]]]:
    """All labels as JSON, one after the other, and where they end; for each column the number of
    the text of each of its codes, -1 of those that no row has, and of the absent value.
    """
    parts, lengths, numbers, count = list[bytes](), list[npt.NDArray[np.int64]](), [], 0
    for name, column in table.columns.items():
        is_used = np.zeros(int(column.codes.max(initial=0)) + 1, dtype=np.bool_)
        is_used[column.codes] = True
        is_used[0] = False
        used = np.flatnonzero(is_used)
        number_of = np.full(len(is_used), -1, dtype=np.int32)
        number_of[used] = np.arange(count, count + len(used))
        numbers.append((column, number_of))
        count += len(used)
        head = json.dumps(_clean(name), ensure_ascii=False) + ":"
        values = column.interned.values
        for begin in range(0, len(used), _VALUES_A_PIECE):
            check()
            piece = [values[code] for code in used[begin : begin + _VALUES_A_PIECE].tolist()]
            text, sizes = _quoted(head, piece)
            parts.append(text)
            lengths.append(sizes)
    ends = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), out=ends[1:])
    return np.frombuffer(b"".join(parts), np.uint8), ends, numbers


def _quoted(head: str, values: Sequence[str], between: str = "") -> tuple[bytes, Offsets]:
    """Each value in quotes, behind `head`, one after the other; and how many bytes each takes."""
    alone = "".join(values)
    if alone.isascii() and _ESCAPED.search(alone) is None:
        joined = f'"{between}{head}"'.join(values)
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        return f'{head}"{joined}"'.encode(), sizes + len(head.encode()) + len('""')
    texts = [(head + json.dumps(_clean(value), ensure_ascii=False)).encode() for value in values]
    return between.encode().join(texts), np.fromiter(map(len, texts), np.int64, len(texts))


def _clean(text: str) -> str:
    """A text whose bytes that are no UTF-8 are U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
