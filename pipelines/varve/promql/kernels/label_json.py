"""Writes the labels of many series as JSON objects into one byte buffer."""

from __future__ import annotations

from varve.model.compiled import kernel
from varve.promql.kernels.types import I32, I64, U8


@kernel("int64(int32[:,::1], int64[::1])")
def objects_bytes(texts: I32, text_ends: I64) -> int:
    """The most bytes that `write_objects` takes for these rows."""
    total = 0
    for i in range(texts.shape[0]):
        total += 3  # braces, and a comma behind them
        for k in range(texts.shape[1]):
            text = texts[i, k]
            if text >= 0:
                total += text_ends[text + 1] - text_ends[text] + 1
    return total


@kernel("int64(uint8[::1], int32[:,::1], const uint8[::1], int64[::1], int64[::1], boolean)")
def write_objects(
    buffer: U8,
    texts: I32,
    data: U8,
    text_ends: I64,
    ends: I64,
    commas: bool,  # noqa: FBT001 - numba passes arguments by position
) -> int:
    """Writes an object for each row of `texts`; ends[i] is where the i-th one ends.

    texts: the labels of each row as numbers of texts, -1 for none. Text n, `"name":"value"`, is
    data[text_ends[n]:text_ends[n + 1]]. commas: there is one behind each object. Returns where
    the last one ends.
    """
    at = 0
    for i in range(texts.shape[0]):
        buffer[at] = 123
        at += 1
        begun = False
        for k in range(texts.shape[1]):
            text = texts[i, k]
            if text < 0:
                continue
            if begun:
                buffer[at] = 44
                at += 1
            begun = True
            for p in range(text_ends[text], text_ends[text + 1]):
                buffer[at] = data[p]
                at += 1
        buffer[at] = 125
        at += 1
        if commas:
            buffer[at] = 44
            at += 1
        ends[i] = at
    return at
