"""Chunks whose checksums are right and whose content is not: samples or a refusal, nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.gateway.importing.tsdb.histogram_chunks import CutChunk, decode_histograms
from varve.gateway.importing.tsdb.kernel_bits import CUT
from varve.gateway.importing.tsdb.kernel_floats import decode_xor, decode_xor2


@pytest.mark.parametrize("decode", [decode_xor, decode_xor2], ids=["xor", "xor2"])
@given(content=st.binary(min_size=3, max_size=120), count=st.integers(1, 60))
def test_any_bytes_are_floats_or_a_cut_chunk(decode, content, count):
    data = np.frombuffer(b"before" + content, np.uint8)
    ts, values = np.zeros(count, np.int64), np.zeros(count, np.uint64)

    assert decode(data, 6, len(data), ts, values) in (count, CUT)


@given(
    content=st.binary(min_size=3, max_size=200),
    count=st.integers(1, 60),
    is_float=st.booleans(),
    has_starts=st.booleans(),
)
def test_any_bytes_are_histograms_or_a_cut_chunk(content, count, is_float, has_starts):
    data = np.frombuffer(content, np.uint8)
    try:
        found = list(
            decode_histograms(data, 0, len(data), count, is_float=is_float, has_starts=has_starts)
        )
    except CutChunk:
        return
    assert len(found) == count
