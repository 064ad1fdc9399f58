"""Windows of sample time and the widths of the rollup tiers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """Span of sample time, (start_ms, end_ms], Unix ms UTC.

    Left-open: neighbours share no sample, and aligned rollups answer a PromQL range exactly.
    ValueError if empty.
    """

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"empty window ({self.start_ms}, {self.end_ms}]")


@dataclass(frozen=True, slots=True)
class Tier:
    """A rollup table and the table it is computed from."""

    name: str
    width_ms: int
    source: str
    """Name of the table below."""

    @property
    def table(self) -> str:
        return f"rollup_{self.name}"


MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

TIERS = (
    Tier("1m", MINUTE_MS, "samples"),
    Tier("5m", 5 * MINUTE_MS, "rollup_1m"),
    Tier("1h", HOUR_MS, "rollup_5m"),
    Tier("1d", DAY_MS, "rollup_1h"),
)

RAW = "raw"
"""What samples are called where a tier may be named."""
TIER_NAMES = (RAW, *(tier.name for tier in TIERS))


def tier_named(name: str) -> Tier:
    """ValueError names the tiers there are."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise ValueError(f"no tier {name!r}: there are {', '.join(t.name for t in TIERS)}")


def window_end(ts_ms: int, width_ms: int) -> int:
    """End of the left-open window that holds ts_ms: ts at a boundary belongs to the earlier one."""
    return -(-ts_ms // width_ms) * width_ms


def floor_to(ts_ms: int, width_ms: int) -> int:
    return ts_ms // width_ms * width_ms
