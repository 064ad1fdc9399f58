"""A block that Prometheus 3.14 wrote, with every chunk encoding, is read as Prometheus reads it."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from varve.gateway.importing.tsdb.block import TsdbBlock, block_folders
from varve.gateway.importing.tsdb.index import DamagedBlock
from varve.gateway.importing.tsdb.kernel_bits import crc32c

FIXTURE = Path(__file__).parents[4] / "fixtures" / "tsdb"
BLOCK = FIXTURE / "01JZ0000000000000000000000"
HINTS = {0: "unknown", 1: "reset", 2: "not_reset", 3: "gauge"}
STALE = "7ff0000000000002"


def bits(value):
    return f"{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"


def shown(ts, histogram):
    if histogram is None:
        return [ts, None]
    h = histogram
    sides = [{str(i): bits(n) for i, n in side.items()} for side in (h.positive, h.negative)]
    numbers = [bits(n) for n in (h.count, h.sum, h.zero_threshold, h.zero_count)]
    return [ts, h.schema, *numbers, *sides, [bits(v) for v in h.custom_values], h.hint]


def expected():
    with gzip.open(FIXTURE / "01JZ0000000000000000000000.jsonl.gz", "rt") as lines:
        for line in lines:
            series = json.loads(line)
            for found in series["histograms"]:
                if found[1] is not None:
                    found[-1] = HINTS[found[-1]]
            yield series


def seal(content, begin, end):
    """Makes the checksum behind a part of a file right."""
    found = crc32c(np.frombuffer(bytes(content), np.uint8), begin, end)
    content[end : end + 4] = int(found).to_bytes(4, "big")


def test_every_sample_of_every_encoding_is_read_as_prometheus_reads_it():
    read = {series.labels: series for series in TsdbBlock(BLOCK).series()}

    counted = Counter()
    for series in expected():
        found = read.pop(tuple(sorted(series["labels"].items())))
        floats = list(map(list, zip(found.ts.tolist(), map(bits, found.values), strict=True)))
        assert floats == series["floats"], series["labels"]
        histograms = [shown(*sample) for sample in found.histograms]
        assert histograms == series["histograms"], series["labels"]
        counted[series["labels"]["encoding"]] += len(found)
        counted["stale"] += sum(value == STALE for _, value in floats)
        counted["stale"] += sum(sample[1] is None for sample in histograms)
    assert not read
    assert len(counted) == 7
    assert min(counted.values()) > 80


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path):
    """Whatever byte is changed, the samples are the same or the block is refused: none is wrong."""
    whole = [(series.labels, len(series)) for series in TsdbBlock(BLOCK).series()]
    names = ("index", "tombstones", "chunks/000001")
    sizes = {name: (BLOCK / name).stat().st_size for name in names}
    refused = 0
    for name, size in sizes.items():
        for at in range(3, size, max(size // 25, 1)):
            copy = tmp_path / f"{name.replace('/', '-')}-{at}"
            shutil.copytree(BLOCK, copy)
            content = bytearray((copy / name).read_bytes())
            content[at] ^= 0x55
            (copy / name).write_bytes(content)
            try:
                read = [(series.labels, len(series)) for series in TsdbBlock(copy).series()]
            except DamagedBlock:
                refused += 1
            else:
                # Of bytes that only queries of Prometheus look at: postings, padding.
                assert name != "tombstones"
                assert read == whole
            shutil.rmtree(copy)
    assert refused > 25


@pytest.mark.parametrize("name", ["index", "tombstones", "chunks/000001", "meta.json"])
def test_a_file_that_was_cut_is_refused(tmp_path, name):
    shutil.copytree(BLOCK, tmp_path / "block")
    file = tmp_path / "block" / name
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(DamagedBlock, match=Path(name).name):
        list(TsdbBlock(tmp_path / "block").series())


def test_blocks_of_a_folder_are_found_in_order_of_time(tmp_path):
    for ulid, begin in (("01JZ0000000000000000000001", 3), ("01JZ0000000000000000000002", 1)):
        (tmp_path / ulid).mkdir()
        meta = {"ulid": ulid, "minTime": begin, "maxTime": begin + 1, "version": 1}
        (tmp_path / ulid / "meta.json").write_text(json.dumps(meta))
    shutil.copytree(tmp_path / "01JZ0000000000000000000001", tmp_path / "01JZ.tmp-for-creation")
    (tmp_path / "wal").mkdir()

    assert [f.name[-1] for f in block_folders(tmp_path)] == ["2", "1"]
    assert block_folders(BLOCK) == [BLOCK]


def test_an_index_whose_series_are_said_to_be_behind_it_is_refused(tmp_path):
    shutil.copytree(BLOCK, tmp_path / "block")
    file = tmp_path / "block" / "index"
    content = bytearray(file.read_bytes())
    toc = len(content) - 52
    content[toc + 8 : toc + 16] = (1 << 40).to_bytes(8, "big")
    seal(content, toc, len(content) - 4)
    file.write_bytes(content)

    with pytest.raises(DamagedBlock, match="sections"):
        TsdbBlock(tmp_path / "block")
