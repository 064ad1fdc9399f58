"""What one query may take: samples, series, steps, time; and how it is cancelled."""

from __future__ import annotations

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

    max_samples: samples read plus values in memory at once, 50 million as in Prometheus.
    max_series: series that one selector may match. max_steps: points of a range query, 11,000 as
    in Prometheus. timeout_s: seconds.
    """

    max_samples: int | None = 50_000_000
    max_series: int | None = 1_000_000
    max_steps: int | None = 11_000
    timeout_s: float | None = 120.0

    def check_steps(self, steps: int) -> None:
        """BadQueryError if a range query has too many points."""
        if self.max_steps is not None and steps > self.max_steps:
            raise BadQueryError(
                f"exceeded maximum resolution of {self.max_steps:,} points per timeseries"
                f" (max_steps). Try decreasing the query resolution (?step=XX)"
            )


class Budget:
    """What is left of the limits while a query runs. Checked between kernels, on one thread."""

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
        self.samples_touched = 0

    def check_running(self) -> None:
        """QueryCanceledError or QueryTimeoutError if the query has to stop."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise QueryCanceledError(f"query was canceled in {_ENVIRONMENT}")
        if self._deadline is not None and self._monotonic() > self._deadline:
            raise QueryTimeoutError(f"query timed out in {_ENVIRONMENT}")

    def check_values(self, count: int) -> None:
        """LimitError if `count` samples or values at once are too many. Call before allocating."""
        self.check_running()
        most = self._limits.max_samples
        if most is not None and count > most:
            raise LimitError(
                f"query processing would load too many samples into memory in {_ENVIRONMENT}:"
                f" {count:,} are over max_samples = {most:,}"
            )

    def check_series(self, count: int) -> None:
        """LimitError if a selector matches too many series."""
        most = self._limits.max_series
        if most is not None and count > most:
            raise LimitError(
                f"query processing would select too many series in {_ENVIRONMENT}:"
                f" {count:,} are over max_series = {most:,}"
            )
