"""Bounds what one query may take, in samples, series, steps and time, and cancels it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from varve.promql.errors import BadQueryError, LimitError, QueryCanceledError
from varve.promql.interrupt import Check, never

_ENVIRONMENT = "query execution"
# A value, and whether there is one.
_BYTES_A_VALUE = 9


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a query; None is no bound.

    max_samples: samples read plus values held at once, 50 million as in Prometheus.
    max_series: series that one selector may match. max_points: points of a range query, 11,000 as
    in Prometheus. timeout_s: seconds, for a query whose caller gives no deadline.
    """

    max_samples: int | None = 50_000_000
    max_series: int | None = 1_000_000
    max_points: int | None = 11_000
    timeout_s: float | None = 120.0

    def check_steps(self, steps: int) -> None:
        """Raises BadQueryError if a range query has too many points. The one at its end is free."""
        if self.max_points is not None and steps - 1 > self.max_points:
            raise BadQueryError(
                f"exceeded maximum resolution of {self.max_points:,} points per timeseries. Try"
                " decreasing the query resolution (?step=XX): it is over query.max_points ="
                f" {self.max_points:,}"
            )


class Budget:
    """Counts what a running query takes against its limits. It belongs to one thread.

    held: the samples and values of what is under way. kept: those that are remembered until the
    query ends. peak: the most of both that was asked for at once. A part that another thread
    evaluates has a `branch` of the budget. `join` then checks what an evaluation on this thread
    alone would have checked, so that no query passes or fails by chance.
    """

    def __init__(
        self, limits: Limits, check: Check = never, take: Callable[[int], None] | None = None
    ) -> None:
        """check: see interrupt.py. take: asked for the bytes of samples and values before they are
        held; what it gave stays taken until the query ends.
        """
        self._take = take
        self._limits = limits
        self._check_interrupt = check
        self._is_abandoned = False
        self.held = 0
        self.kept = 0
        self.peak = 0
        self.samples_touched = 0

    def branch(self) -> Budget:
        """Returns a budget for a part that another thread evaluates; it counts from zero."""
        part = copy.copy(self)
        part.held = part.kept = part.peak = part.samples_touched = 0
        return part

    def join(self, part: Budget) -> None:
        """Adds what `part` took. Raises LimitError if it would not have fitted in here."""
        self._check(part.peak)
        self.held += part.held
        self.kept += part.kept
        self.samples_touched += part.samples_touched

    def abandon(self) -> None:
        """Makes the next check end the evaluation, since nobody waits for the outcome any more."""
        self._is_abandoned = True

    def check_running(self) -> None:
        """Raises QueryCanceledError or QueryTimeoutError if the query has to stop."""
        if self._is_abandoned:
            raise QueryCanceledError(f"query was canceled in {_ENVIRONMENT}")
        self._check_interrupt()

    def fits(self, *, series: int, samples: int, values: int) -> bool:
        """Whether a selection would pass the checks below."""
        most_series, most = self._limits.max_series, self._limits.max_samples
        held = self.held + self.kept + samples
        return (most_series is None or series <= most_series) and (
            most is None or held + values <= most
        )

    def check_values(self, count: int) -> None:
        """Raises LimitError if `count` more samples or values are too many. Call it before
        allocating.
        """
        self.check_running()
        more = self._check(count)
        if more and self._take is not None:
            self._take(more * _BYTES_A_VALUE)

    def hold(self, count: int) -> None:
        """Checks as `check_values` does, and counts them as held from now on."""
        self.check_values(count)
        self.held += count

    def _check(self, count: int) -> int:
        """By how much the peak rises."""
        wanted = self.held + self.kept + count
        more = max(0, wanted - self.peak)
        self.peak += more
        most = self._limits.max_samples
        if most is not None and wanted > most:
            raise LimitError(
                f"query processing would load too many samples into memory in {_ENVIRONMENT}:"
                f" {wanted:,} are over query.max_samples = {most:,}"
            )
        return more

    def check_series(self, count: int) -> None:
        """Raises LimitError if a selector matches too many series."""
        most = self._limits.max_series
        if most is not None and count > most:
            raise LimitError(
                f"query processing would select too many series in {_ENVIRONMENT}:"
                f" {count:,} of one selector are over query.max_series = {most:,}"
            )
