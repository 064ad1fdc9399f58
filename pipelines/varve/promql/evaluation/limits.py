"""What one query may take: samples, series, steps, time; and how it is cancelled."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from varve.promql.errors import (
    BadQueryError,
    LimitError,
    QueryCanceledError,
    QueryTimeoutError,
)

_ENVIRONMENT = "query execution"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a query; None is no bound.

    max_samples: samples read plus values held at once, 50 million as in Prometheus.
    max_series: series that one selector may match. max_steps: points of a range query, 11,000 as
    in Prometheus. timeout_s: seconds.
    """

    max_samples: int | None = 50_000_000
    max_series: int | None = 1_000_000
    max_steps: int | None = 11_000
    timeout_s: float | None = 120.0

    def check_steps(self, steps: int) -> None:
        """BadQueryError if a range query has too many points; the one at its end is free."""
        if self.max_steps is not None and steps - 1 > self.max_steps:
            raise BadQueryError(
                f"exceeded maximum resolution of {self.max_steps:,} points per timeseries."
                " Try decreasing the query resolution (?step=XX). The limit is max_steps."
            )


class Budget:
    """What is left of the limits while a query runs. Checked between kernels, on one thread.

    held: samples and values that are held by what is under way. kept: by what is remembered to
    the end. peak: the most of both that was asked for. What is evaluated on another thread has a
    `branch` of the budget; `join` then checks what an evaluation on this thread alone would have
    checked, so that no query passes or fails by chance.
    """

    def __init__(
        self,
        limits: Limits,
        cancelled: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._cancelled = cancelled
        self._monotonic = monotonic
        self._deadline = None if limits.timeout_s is None else monotonic() + limits.timeout_s
        self._is_abandoned = False
        self.held = 0
        self.kept = 0
        self.peak = 0
        self.samples_touched = 0

    def branch(self) -> Budget:
        """That of a part that is evaluated beside this one: counted from nothing."""
        part = copy.copy(self)
        part.held = part.kept = part.peak = part.samples_touched = 0
        return part

    def join(self, part: Budget) -> None:
        """What `part` took now counts here. LimitError if it would not have fitted in."""
        self._check(part.peak)
        self.held += part.held
        self.kept += part.kept
        self.samples_touched += part.samples_touched

    def abandon(self) -> None:
        """Nobody waits for the outcome any more: the next check ends the evaluation."""
        self._is_abandoned = True

    def check_running(self) -> None:
        """QueryCanceledError or QueryTimeoutError if the query has to stop."""
        if self._is_abandoned or (self._cancelled is not None and self._cancelled.is_set()):
            raise QueryCanceledError(f"query was canceled in {_ENVIRONMENT}")
        if self._deadline is not None and self._monotonic() > self._deadline:
            raise QueryTimeoutError(f"query timed out in {_ENVIRONMENT}")

    def check_values(self, count: int) -> None:
        """LimitError if `count` samples or values more are too many. Call before allocating."""
        self.check_running()
        self._check(count)

    def hold(self, count: int) -> None:
        """`check_values`, and count them from now on."""
        self.check_values(count)
        self.held += count

    def _check(self, count: int) -> None:
        wanted = self.held + self.kept + count
        self.peak = max(self.peak, wanted)
        most = self._limits.max_samples
        if most is not None and wanted > most:
            raise LimitError(
                f"query processing would load too many samples into memory in {_ENVIRONMENT}:"
                f" {wanted:,} are over max_samples = {most:,}"
            )

    def check_series(self, count: int) -> None:
        """LimitError if a selector matches too many series."""
        most = self._limits.max_series
        if most is not None and count > most:
            raise LimitError(
                f"query processing would select too many series in {_ENVIRONMENT}:"
                f" {count:,} are over max_series = {most:,}"
            )
