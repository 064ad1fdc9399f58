"""What has been deleted from a block. Source: Prometheus, tsdb/docs/format/tombstones.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.index import DamagedBlock
from varve.gateway.importing.tsdb.kernel_bits import crc32c
from varve.gateway.protobuf import read_varint, zigzag
from varve.gateway.refusals import Malformed

_MAGIC: Final = 0x0130BA30
_HEADER_BYTES, _CRC_BYTES = 5, 4

Tombstones = dict[int, list[tuple[int, int]]]
"""Ranges of time of a series, both ends included, by its number."""


def read_tombstones(path: Path) -> Tombstones:
    """Nothing if there is no such file. Raises DamagedBlock, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    data = np.frombuffer(content, np.uint8)
    end = len(content) - _CRC_BYTES
    if end < _HEADER_BYTES or int.from_bytes(content[:4], "big") != _MAGIC or content[4] != 1:
        raise DamagedBlock(f"{path} is no file of tombstones")
    if crc32c(data, _HEADER_BYTES, end) != int.from_bytes(content[end:], "big"):
        raise DamagedBlock(f"{path}: its checksum is wrong")
    found: Tombstones = {}
    at = _HEADER_BYTES
    stones = content[:end]
    try:
        while at < end:
            ref, at = read_varint(stones, at)
            first, at = read_varint(stones, at)
            last, at = read_varint(stones, at)
            found.setdefault(ref, []).append((zigzag(first), zigzag(last)))
    except Malformed:
        raise DamagedBlock(f"{path} is cut") from None
    return found


def spared(
    ts: npt.NDArray[np.int64], deleted: list[tuple[int, int]]
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Which times are in none of the ranges."""
    kept = np.ones(len(ts), np.bool_)
    for first, last in deleted:
        kept &= (ts < first) | (ts > last)
    return kept
