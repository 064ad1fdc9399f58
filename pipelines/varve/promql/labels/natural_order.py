"""Orders texts naturally: runs of digits that fit 64 bits compare as numbers.

Source: github.com/facette/natsort, Compare, which Prometheus sorts labels with.
"""

from __future__ import annotations

import re

_CHUNK = re.compile(r"\d+|\D+", re.ASCII)


def is_before(a: str, b: str) -> bool:
    """Whether `a` comes before `b`, which is another text."""
    left, right = _CHUNK.findall(a), _CHUNK.findall(b)
    for chunk, other in zip(left, right, strict=False):
        number, another = _number(chunk), _number(other)
        if number is not None and another is not None:
            if number != another:
                return number < another
        elif chunk != other:
            return bool(chunk < other)
    return len(left) <= len(right)


def _number(chunk: str) -> int | None:
    """The number that a chunk is; None if it is none, or one beyond 64 bits."""
    digits = chunk.lstrip("0") or "0"
    if not chunk[0].isdecimal() or len(digits) > 19:
        return None
    number = int(digits)
    return number if number < 2**63 else None
