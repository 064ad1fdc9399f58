"""Tells counter resets by start timestamps.

Source: Prometheus, promql/functions.go, isStartTimestampReset and checkStartTimeOverlap.
"""

from __future__ import annotations


def is_reset(start_before: int, before: int, start: int, now: int) -> bool:
    """Whether the counter started anew between two samples.

    start_before, before: start timestamp and time of the earlier sample; start, now: of the
    later. A start of 0 is unknown, one not before its sample invalid.
    """
    if start == 0 or start >= now or start < before:
        return False
    if start > before:
        return True
    # A start at the earlier sample is that of a delta, unless that sample's own is unknown: then
    # it is a cumulative counter whose start is unknown.
    return start_before != 0 and start_before < before


def overlaps(start_before: int, before: int, start: int) -> bool:
    """Whether a sample claims to have started within the time of the one before it."""
    return start not in (0, start_before) and start < before
