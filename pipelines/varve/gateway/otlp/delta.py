"""Totals of what senders report as deltas.

Source: OpenTelemetry Metrics Data Model, "Resets and Gaps"; the collector's processor
deltatocumulative.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from varve.gateway.write_request import Labels


class Amount(Protocol):
    """What a point reports, and a total of it."""

    def plus(self, other: Self) -> Self | None:
        """Their sum; None if the two have different buckets, and a new total begins."""


A = TypeVar("A", bound=Amount)


@dataclass(frozen=True, slots=True)
class Count:
    """The amount of a sum."""

    value: float

    def plus(self, other: Count) -> Count:
        return Count(self.value + other.value)


@dataclass(slots=True)
class _Total:
    amount: Any
    start_ns: int
    last_start_ns: int
    last_ns: int
    seen_s: float


class TooManyTotals(ValueError):
    """There is no room for another series of deltas."""


class DeltaTotals:
    """The running total of each series of deltas. For one thread.

    A point that comes again, because its sender did not see the answer, changes nothing: the last
    point of a series gives the same total again, an earlier one is in it already.
    """

    def __init__(
        self, now_s: Callable[[], float], *, most: int = 1_000_000, forgotten_after_s: float = 3_600
    ) -> None:
        """most: series kept. forgotten_after_s: of one that got no point for so long; then its next
        point begins a new total, which PromQL sees as a reset.
        """
        self._now_s = now_s
        self._most = most
        self._forgotten_after_s = forgotten_after_s
        self._totals: OrderedDict[Labels, _Total] = OrderedDict()

    def __len__(self) -> int:
        return len(self._totals)

    def add(self, series: Labels, amount: A, start_ns: int, end_ns: int) -> tuple[A, int] | None:
        """The total with a point of (start_ns, end_ns], and since when it counts. None if the point
        is older than the series' last one. Raises TooManyTotals.
        """
        now_s = self._now_s()
        key = tuple(series)
        total = self._totals.get(key)
        if total is None or not isinstance(total.amount, type(amount)):
            self._make_room(now_s)
            return self._begin(key, amount, start_ns, end_ns, now_s)
        if end_ns <= total.last_ns:
            is_repeat = (start_ns, end_ns) == (total.last_start_ns, total.last_ns)
            return (total.amount, total.start_ns) if is_repeat else None
        summed = total.amount.plus(amount)
        if summed is None:
            return self._begin(key, amount, start_ns, end_ns, now_s)
        total.amount, total.last_start_ns, total.last_ns = summed, start_ns, end_ns
        total.seen_s = now_s
        self._totals.move_to_end(key)
        return summed, total.start_ns

    def _begin(
        self, key: tuple[tuple[str, str], ...], amount: A, start_ns: int, end_ns: int, now_s: float
    ) -> tuple[A, int]:
        start = start_ns or end_ns
        self._totals[key] = _Total(amount, start, start_ns, end_ns, now_s)
        self._totals.move_to_end(key)
        return amount, start

    def _make_room(self, now_s: float) -> None:
        """Forgets what was not seen for long. Raises TooManyTotals if that is not enough."""
        totals = self._totals
        while totals:
            oldest = next(iter(totals))
            if now_s - totals[oldest].seen_s < self._forgotten_after_s:
                break
            del totals[oldest]
        if len(totals) >= self._most:
            raise TooManyTotals(
                f"totals of {self._most:,} series of deltas are kept, and there is no room for more"
            )
