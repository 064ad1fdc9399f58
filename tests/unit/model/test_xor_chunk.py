"""Chunks as Prometheus has them, read again by a plain decoder."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from varve.model import xor_chunk
from varve.model.staleness import STALE_NAN

times = st.lists(
    st.one_of(st.integers(0, 3), st.integers(14_000, 16_000), st.integers(0, 2**40)),
    min_size=1,
    max_size=300,
)
values = st.one_of(
    st.floats(), st.integers(-3, 3).map(float), st.sampled_from([0.1, 0.2, 1e300, STALE_NAN])
)


class Bits:
    """The bits of a chunk, from the left."""

    def __init__(self, data):
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def number(self, width):
        self.at += width
        return int(self.text[self.at - width : self.at] or "0", 2)

    def varint(self):
        byte = self.number(8)
        return byte & 127 | (self.varint() << 7 if byte & 128 else 0)


def decode(chunk):
    """(time, bits of the value) of each sample."""
    bits, found = Bits(chunk), []
    for i in range(bits.number(16)):
        if i == 0:
            zigzag = bits.varint()
            found.append((zigzag >> 1 ^ -(zigzag & 1), bits.number(64)))
            continue
        if i == 1:
            delta = bits.varint()
        else:
            ones = 0
            while ones < 4 and bits.number(1):
                ones += 1
            width = [0, 14, 17, 20, 64][ones]
            change = bits.number(width)
            delta += change - (1 << width) if width and change > 1 << (width - 1) else change
        t, value = found[-1]
        if bits.number(1):
            if bits.number(1):
                leading, meaning = bits.number(5), bits.number(6) or 64
            value ^= bits.number(meaning) << (64 - leading - meaning)
        found.append((t + delta, value))
    return found


@given(first=st.integers(-(2**60), 2**60), deltas=times, data=st.data())
def test_what_is_encoded_is_decoded(first, deltas, data):
    ts = first + np.cumsum(np.array(deltas, np.int64))
    numbers = np.array(data.draw(st.lists(values, min_size=len(ts), max_size=len(ts))), np.float64)

    chunks = xor_chunk.encode(ts, numbers)

    decoded = [decode(chunk) for chunk in chunks]
    assert all(len(chunk) <= xor_chunk.MOST_BYTES for chunk in chunks)
    sizes = [min(120, len(ts) - at) for at in range(0, len(ts), 120)]
    assert [len(part) for part in decoded] == sizes
    samples = zip(ts.tolist(), numbers.view(np.uint64).tolist(), strict=True)
    assert [sample for part in decoded for sample in part] == list(samples)


def test_a_chunk_is_as_the_format_says():
    """Worked out by hand: 2 samples, zigzag of 1 is 2, 1.0, a delta of 15, an equal value."""
    chunk = xor_chunk.encode(np.array([1, 16]), np.array([1.0, 1.0]))

    assert chunk == [bytes.fromhex("0002023ff00000000000000f00")]


def test_steady_series_take_two_bits_a_sample():
    ts = np.arange(120, dtype=np.int64) * 15_000

    (chunk,) = xor_chunk.encode(ts, np.full(120, 7.5))

    assert len(chunk) < 2 + 1 + 8 + 3 + 120 * 2 / 8
