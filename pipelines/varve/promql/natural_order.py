"""Natural order of texts: runs of digits compare as numbers.

Source: github.com/facette/natsort, Compare, which Prometheus sorts labels with.
"""

from __future__ import annotations

import re

_CHUNK = re.compile(r"\d+|\D+", re.ASCII)


def is_before(a: str, b: str) -> bool:
    """Whether `a` comes before `b`, which is another text."""
    left, right = _CHUNK.findall(a), _CHUNK.findall(b)
    for chunk, other in zip(left, right, strict=False):
        if chunk[0].isdigit() and other[0].isdigit():
            if int(chunk) != int(other):
                return int(chunk) < int(other)
        elif chunk != other:
            return bool(chunk < other)
    return len(left) <= len(right)
