"""Hashes label sets, as limit_ratio chooses series by: XXH64 of their canonical bytes.

Source: Prometheus, model/labels/labels_stringlabels.go (Hash); XXH64 by Yann Collet.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varve.promql.interrupt import Check, checked, never
from varve.promql.labels.label_table import Labels, LabelTable

_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def label_hashes(table: LabelTable, check: Check = never) -> npt.NDArray[np.uint64]:
    """The hash of every row. check: see interrupt.py."""

    def make() -> npt.NDArray[np.uint64]:
        return np.array(
            [xxh64(encoded(row)) for row in checked(table.labels(check), check)], dtype=np.uint64
        )

    return table.cached("hashes", make)


def encoded(labels: Labels) -> bytes:
    """The canonical bytes: each name and value with its length before it."""
    parts = []
    for pair in labels:
        for text in pair:
            data = text.encode("utf-8", "surrogateescape")
            short = len(data) < 255
            size = bytes([len(data)]) if short else b"\xff" + len(data).to_bytes(3, "little")
            parts += [size, data]
    return b"".join(parts)


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0."""
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while at + 32 <= length:
            for i in range(4):
                lanes[i] = _round(lanes[i], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        h = sum(_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        h = _P5
    h = (h + length) & _MASK
    while at + 8 <= length:
        h ^= _round(0, int.from_bytes(data[at : at + 8], "little"))
        h = (_rotate(h, 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= length:
        h ^= int.from_bytes(data[at : at + 4], "little") * _P1 & _MASK
        h = (_rotate(h, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        h ^= byte * _P5 & _MASK
        h = _rotate(h, 11) * _P1 & _MASK
    h = (h ^ h >> 33) * _P2 & _MASK
    h = (h ^ h >> 29) * _P3 & _MASK
    return h ^ h >> 32


def _round(lane: int, value: int) -> int:
    return _rotate((lane + value * _P2) & _MASK, 31) * _P1 & _MASK


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK
