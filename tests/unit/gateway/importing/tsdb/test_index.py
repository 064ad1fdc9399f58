"""Indexes of every format: written here as Prometheus' documentation has it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.gateway.importing.tsdb.index import Index
from varve.gateway.importing.tsdb.kernel_bits import crc32c

texts = st.text(st.characters(codec="utf-8"), max_size=5)
chunks = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**40)), max_size=4
)
series = st.lists(
    st.tuples(st.dictionaries(texts, texts, min_size=1, max_size=4), chunks),
    min_size=1,  # Prometheus writes no block without series
    max_size=6,
)


def uvarint(number):
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def varint(number):
    return uvarint(number << 1 if number >= 0 else (-number << 1) - 1)


def sealed(content):
    return struct.pack(">I", int(crc32c(np.frombuffer(content, np.uint8), 0, len(content))))


def chunk_rows(pieces):
    """Where each chunk is, its first and last time: gaps and lengths become times."""
    rows, now = [], -500
    for gap, length, ref in pieces:
        begin = now + gap
        now = begin + length
        rows.append((ref, begin, now))
    return rows


def written(version, found):
    """The file, and what a series is named by."""
    symbols = sorted({text for labels, _ in found for pair in labels.items() for text in pair})
    table, refs = bytearray(struct.pack(">I", len(symbols))), {}
    at = 5 + 4
    for number, text in enumerate(symbols):
        refs[text] = at + len(table) if version == 1 else number
        encoded = text.encode()
        table += uvarint(len(encoded)) + encoded
    content = bytearray(struct.pack(">IB", 0xBAAAD700, version))
    content += struct.pack(">I", len(table)) + table + sealed(bytes(table))
    series_at, ids = len(content), []
    for labels, pieces in found:
        if version > 1:
            content += bytes(-len(content) % 16)
        ids.append(len(content) if version == 1 else len(content) // 16)
        entry = uvarint(len(labels))
        for name, value in sorted(labels.items()):
            entry += uvarint(refs[name]) + uvarint(refs[value])
        rows = chunk_rows(pieces)
        entry += uvarint(len(rows))
        before = None
        for ref, begin, end in rows:
            if before is None:
                entry += varint(begin) + uvarint(end - begin) + uvarint(ref)
            else:
                entry += uvarint(begin - before[2]) + uvarint(end - begin)
                entry += varint(ref - before[0])
            before = ref, begin, end
        content += uvarint(len(entry)) + entry + sealed(entry)
    contents = struct.pack(">6Q", 5, series_at, *[len(content)] * 4)
    return bytes(content) + contents + sealed(contents), ids


@pytest.mark.parametrize("version", [1, 2, 3])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(found=series)
def test_every_series_of_an_index_is_read_with_its_chunks(tmp_path, version, found):
    content, ids = written(version, found)
    file = tmp_path / "index"
    file.unlink(missing_ok=True)  # it may be mapped: not to be changed in place
    file.write_bytes(content)

    read = list(Index(file).series())

    assert [one.labels for one in read] == [tuple(sorted(labels.items())) for labels, _ in found]
    assert [list(map(tuple, one.chunks.tolist())) for one in read] == [
        chunk_rows(pieces) for _, pieces in found
    ]
    assert [one.ref for one in read] == ids
