"""Blocks: samples in memory as columns, sorted and without copies, and how blocks merge.

A (series_id, ts) is one sample; which of its copies stays is the rule of varve.model.copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.compiled import inline, kernel
from varve.model.copies import rank_of
from varve.model.staleness import NORMAL_NAN, STALE_BITS, STALE_NAN
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.storage import Samples

BYTES_PER_SAMPLE = 24
_STALE = STALE_BITS  # kernels take globals of their own module for constants
COLUMNS = ("series_id", "ts", "value")


@dataclass(frozen=True, slots=True)
class Block:
    """Samples sorted by (series_id, ts), each once; a stale marker has the bits of STALE_NAN."""

    series_ids: I64
    ts: I64
    values: F64

    @property
    def rows(self) -> int:
        return len(self.ts)

    @property
    def nbytes(self) -> int:
        return self.rows * BYTES_PER_SAMPLE


def block_of(rows: pa.Table) -> Block:
    """COLUMNS of the table samples as a block. NULL becomes the stale marker."""
    rows = rows.combine_chunks()
    ids = np.ascontiguousarray(rows.column("series_id").to_numpy())
    ts = np.ascontiguousarray(rows.column("ts").to_numpy())
    column = rows.column("value")
    values = np.array(column.to_numpy(zero_copy_only=False))
    values[np.isnan(values)] = NORMAL_NAN
    if column.null_count:
        values[column.is_null().to_numpy()] = STALE_NAN
    if not strictly_sorted(ids, ts):
        ids, ts, values = copies.merge(ids, ts, values)
    return Block(ids, ts, values)


def merge(blocks: Sequence[Block]) -> Block:
    """One block with the samples of all of them. ValueError if there is none."""
    if not blocks:
        raise ValueError("no blocks to merge")
    while len(blocks) > 1:  # pairs of like size, so that no row is copied more than log n times
        ordered = sorted(blocks, key=lambda b: b.rows)
        halves = [ordered[i : i + 2] for i in range(0, len(ordered), 2)]
        blocks = [_merge_two(*pair) if len(pair) == 2 else pair[0] for pair in halves]
    return blocks[0]


def gather(
    blocks: Sequence[Block],
    series_ids: I64,
    by_id: I64,
    start_ms: int,
    end_ms: int,
    admit: Callable[[int], None] | None = None,
) -> Samples:
    """Samples of some series in (start_ms, end_ms], merged over all blocks.

    by_id: positions of series_ids in ascending order of id. Row i of the result is
    series_ids[i]. A series that is in one block only is not copied if that holds for all.
    admit: called with the number of samples before any is copied; it may raise.
    """
    wanted = series_ids[by_id]
    spans = []
    for block in blocks:
        low = np.empty(len(wanted), dtype=np.int64)
        high = np.empty(len(wanted), dtype=np.int64)
        if locate(block.series_ids, block.ts, wanted, start_ms, end_ms, low, high):
            spans.append((block, low, high))
    if admit is not None:
        admit(int(sum((high - low).sum() for _, low, high in spans)))
    back = np.empty_like(by_id)
    back[by_id] = np.arange(len(by_id))
    if not spans:
        none = np.zeros(len(wanted), dtype=np.int64)
        empty = np.empty(0, dtype=np.int64)
        return Samples(empty, np.empty(0), none, none, np.zeros(len(wanted), dtype=np.bool_))
    if len(spans) == 1:
        block, low, high = spans[0]
        ts, values = block.ts, block.values
    else:
        ts, values, low, high = _joined(spans)
    stale = np.empty(len(wanted), dtype=np.bool_)
    mark_stale(values.view(np.int64), low, high, stale)
    return Samples(ts, values, low[back], high[back], stale[back])


def _joined(spans: Sequence[tuple[Block, I64, I64]]) -> tuple[I64, F64, I64, I64]:
    """(ts, values, begins, ends) with each series' samples of all spans side by side."""
    # Mostly each block is a time of its own: in their order nothing has to be sorted.
    spans = sorted(spans, key=lambda span: _first_ts(*span))
    lengths = np.sum([high - low for _, low, high in spans], axis=0)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    ts = np.empty(int(lengths.sum()), dtype=np.int64)
    values = np.empty(len(ts), dtype=np.float64)
    filled = begins.copy()
    for block, low, high in spans:
        copy_spans(block.ts, block.values, low, high, ts, values, filled)
    settle(ts, values, begins, ends)
    return ts, values, begins, ends


def _first_ts(block: Block, low: I64, high: I64) -> int:
    row = int(np.argmax(high > low))
    return int(block.ts[low[row]])


def _merge_two(left: Block, right: Block) -> Block:
    size = left.rows + right.rows
    ids, ts = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    values = np.empty(size, dtype=np.float64)
    kept = merge_sorted(
        left.series_ids, left.ts, left.values, right.series_ids, right.ts, right.values,
        ids, ts, values,
    )  # fmt: skip
    if kept < size:
        ids, ts, values = ids[:kept].copy(), ts[:kept].copy(), values[:kept].copy()
    return Block(ids, ts, values)


@kernel("boolean(const int64[::1], const int64[::1])")
def strictly_sorted(ids: I64, ts: I64) -> bool:
    for i in range(1, len(ids)):
        if ids[i] < ids[i - 1] or (ids[i] == ids[i - 1] and ts[i] <= ts[i - 1]):
            return False
    return True


@kernel(
    "int64(const int64[::1], const int64[::1], const float64[::1],"
    " const int64[::1], const int64[::1], const float64[::1],"
    " int64[::1], int64[::1], float64[::1])"
)
def merge_sorted(
    a_ids: I64, a_ts: I64, a_values: F64, b_ids: I64, b_ts: I64, b_values: F64,
    ids: I64, ts: I64, values: F64,
) -> int:  # fmt: skip
    """Merges two blocks' columns into the last three; returns how many rows they hold."""
    a_bits, b_bits = a_values.view(np.int64), b_values.view(np.int64)
    bits = values.view(np.int64)
    i = j = out = 0
    while i < len(a_ids) or j < len(b_ids):
        if j == len(b_ids):
            from_a, both = True, False
        elif i == len(a_ids):
            from_a, both = False, False
        elif a_ids[i] != b_ids[j]:
            from_a, both = a_ids[i] < b_ids[j], False
        else:
            from_a, both = a_ts[i] <= b_ts[j], a_ts[i] == b_ts[j]
        if from_a:
            ids[out], ts[out], bits[out] = a_ids[i], a_ts[i], a_bits[i]
            if both:
                if rank_of(b_bits[j]) > rank_of(a_bits[i]):
                    bits[out] = b_bits[j]
                j += 1
            i += 1
        else:
            ids[out], ts[out], bits[out] = b_ids[j], b_ts[j], b_bits[j]
            j += 1
        out += 1
    return out


@inline
def _first_not_below(column: I64, begin: int, end: int, value: int) -> int:
    """The first index in [begin, end) of an ascending column with column[i] >= value."""
    while begin < end:
        middle = (begin + end) >> 1
        if column[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@kernel(
    "boolean(const int64[::1], const int64[::1], const int64[::1], int64, int64,"
    " int64[::1], int64[::1])"
)
def locate(ids: I64, ts: I64, wanted: I64, start_ms: int, end_ms: int, low: I64, high: I64) -> bool:
    """Rows low[i]:high[i] of series wanted[i] (ascending) in (start_ms, end_ms]; any at all?"""
    found = False
    begin = 0
    for i in range(len(wanted)):
        # Gallop: many wanted ids lie close together.
        step = 1
        stop = begin
        while stop < len(ids) and ids[stop] < wanted[i]:
            begin = stop + 1
            stop = min(stop + step, len(ids))
            step *= 2
        begin = _first_not_below(ids, begin, stop, wanted[i])
        step = 1
        last = begin
        while last < len(ids) and ids[last] == wanted[i]:
            last = min(last + step, len(ids))
            step *= 2
        end = _first_not_below(ids, begin, last, wanted[i] + 1)
        low[i] = _first_not_below(ts, begin, end, start_ms + 1)
        high[i] = _first_not_below(ts, low[i], end, end_ms + 1)
        found = found or high[i] > low[i]
        begin = end
    return found


@kernel(
    "void(const int64[::1], const float64[::1], const int64[::1], const int64[::1],"
    " int64[::1], float64[::1], int64[::1])"
)
def copy_spans(
    ts: I64, values: F64, low: I64, high: I64, ts_out: I64, values_out: F64, filled: I64
) -> None:
    """Appends each series' rows low:high to the output at filled[i], and moves that on."""
    bits, bits_out = values.view(np.int64), values_out.view(np.int64)
    for i in range(len(low)):
        at = filled[i]
        for k in range(low[i], high[i]):
            ts_out[at] = ts[k]
            bits_out[at] = bits[k]
            at += 1
        filled[i] = at


@kernel("void(int64[::1], float64[::1], const int64[::1], int64[::1])")
def settle(ts: I64, values: F64, begins: I64, ends: I64) -> None:
    """Sorts each series' rows by time, in place, and drops copies, moving its end."""
    bits = values.view(np.int64)
    for i in range(len(begins)):
        begin, end = begins[i], ends[i]
        ordered, distinct = True, True
        for k in range(begin + 1, end):
            ordered = ordered and ts[k] >= ts[k - 1]
            distinct = distinct and ts[k] > ts[k - 1]
        if distinct:
            continue
        if not ordered:
            order = np.argsort(ts[begin:end], kind="mergesort")
            ts[begin:end] = ts[begin:end][order]
            bits[begin:end] = bits[begin:end][order]
        kept = begin
        for k in range(begin, end):
            if kept > begin and ts[kept - 1] == ts[k]:
                if rank_of(bits[k]) > rank_of(bits[kept - 1]):
                    bits[kept - 1] = bits[k]
                continue
            ts[kept] = ts[k]
            bits[kept] = bits[k]
            kept += 1
        ends[i] = kept


@kernel("void(const int64[::1], const int64[::1], const int64[::1], boolean[::1])")
def mark_stale(bits: I64, begins: I64, ends: I64, stale: Bools) -> None:
    """Whether each series has a stale marker among its rows."""
    for i in range(len(begins)):
        stale[i] = False
        for k in range(begins[i], ends[i]):
            if bits[k] == _STALE:
                stale[i] = True
                break
