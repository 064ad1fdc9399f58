"""A limit that something is beyond, with its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that something is beyond. limit: its setting, or its key in limits.toml. allowed and
    found: in one unit; None: not known.
    """

    limit: str
    allowed: int
    found: int | None = None
