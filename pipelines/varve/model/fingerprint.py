"""The fingerprint of a label set, as Prometheus and Alertmanager compute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_OFFSET: Final = 14_695_981_039_346_656_037
_PRIME: Final = 1_099_511_628_211
_SEPARATOR: Final = b"\xff"


def fingerprint(labels: Mapping[str, str]) -> int:
    """FNV-1a, 64 bits, of names and values sorted by name, each closed by a byte 255."""
    value = _OFFSET
    for name in sorted(labels):
        data = b"".join(
            part.encode("utf-8", "surrogateescape") + _SEPARATOR for part in (name, labels[name])
        )
        for byte in data:
            value = (value ^ byte) * _PRIME & 0xFFFF_FFFF_FFFF_FFFF
    return value
