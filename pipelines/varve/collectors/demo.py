"""Eight days in the life of a small shop, generated: something to look at from the first minute.

Traffic has a daily and a weekly rhythm. Two things go wrong, at fixed spans before the end: a burst
of errors with slow answers, and a memory leak that restarts one server several times. Every series
has the label generated="true". Equal arguments give equal values, bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from varve.client import Sample, SeriesDefinition, define
from varve.model.identity import MetricType
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, floor_to

JOB = "demo-shop"

Floats = npt.NDArray[np.float64]

# Incidents, in ms from the midnight before the end: by day, when there is traffic to disturb.
BURST = (-2 * DAY_MS + 13 * HOUR_MS, -2 * DAY_MS + 13 * HOUR_MS + 40 * MINUTE_MS)
LEAK = (-5 * DAY_MS + 8 * HOUR_MS, -4 * DAY_MS + 20 * HOUR_MS)
_RESTART_EVERY_MS = 9 * HOUR_MS

_INSTANCES = ("web-1", "web-2")
_LEAKING = "web-2"
_ROUTES = {"/": 4.0, "/search": 2.5, "/cart": 1.2, "/checkout": 0.5}  # requests a second at noon
_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_QUEUES = {"orders": 3.0, "mail": 8.0, "images": 1.5}
_MIB = 2**20


class DemoSeries(NamedTuple):
    """A series of the history. `values` has one value for each timestamp of the History."""

    definition: SeriesDefinition
    values: Floats


@dataclass(frozen=True, slots=True)
class History:
    """All series of the shop. `ts_ms` is ascending and the same for each of them."""

    ts_ms: npt.NDArray[np.int64]
    series: tuple[DemoSeries, ...]

    def __len__(self) -> int:
        return len(self.ts_ms) * len(self.series)

    def samples(self, first_ms: int, last_ms: int) -> Iterator[Sample]:
        """Yields the samples in [first_ms, last_ms), series by series."""
        low, high = np.searchsorted(self.ts_ms, [first_ms, last_ms])
        stamps = self.ts_ms[low:high].tolist()
        for definition, values in self.series:
            for ts, value in zip(stamps, values[low:high].tolist(), strict=True):
                yield Sample(definition, ts, value)


def history(end_ms: int, *, days: float, interval_s: int, seed: int) -> History:
    """The history that ends at the last multiple of interval_s not after end_ms."""
    step_ms = interval_s * 1000
    last = end_ms // step_ms
    count = max(1, int(days * DAY_MS) // step_ms)
    ts_ms = np.arange(last - count + 1, last + 1, dtype=np.int64) * step_ms
    shop = _Shop(ts_ms, end_ms, interval_s, seed)
    return History(ts_ms, tuple(shop.series()))


class _Shop:
    """The model. All arrays have one entry for each timestamp."""

    def __init__(
        self, ts_ms: npt.NDArray[np.int64], end_ms: int, interval_s: int, seed: int
    ) -> None:
        self._ts_ms = ts_ms
        self._seed = seed
        self._interval_s = interval_s
        self._traffic = rhythm(ts_ms)
        into = ts_ms - floor_to(end_ms, DAY_MS)
        self._burst = _within(into, BURST).astype(float)
        # 0 to 1, how much of the memory has leaked since the last restart.
        leaking, since_leak = _within(into, LEAK), into - LEAK[0]
        self._leak = np.where(leaking, since_leak % _RESTART_EVERY_MS, 0) / _RESTART_EVERY_MS
        # The release that leaks begins with a restart, and the one that ends it as well.
        runs = np.where(leaking, since_leak // _RESTART_EVERY_MS, -1)
        self._restarts = {_LEAKING: np.flatnonzero(np.diff(runs, prepend=runs[0]))}

    def series(self) -> Iterator[DemoSeries]:
        for instance in _INSTANCES:
            yield from self._requests(instance)
            yield from self._process(instance)
        yield from self._business()
        yield from self._machines()

    def _requests(self, instance: str) -> Iterator[DemoSeries]:
        share = 0.52 if instance == _LEAKING else 0.48
        answered = np.zeros(len(self._ts_ms))
        for route, at_noon in _ROUTES.items():
            rate = at_noon * share * self._traffic
            errors = 0.001 + 0.22 * self._burst
            parts = {"200": 1 - errors - 0.02, "404": np.full_like(errors, 0.02), "500": errors}
            for code, part in parts.items():
                labels = {"instance": instance, "route": route, "code": code}
                increments = self._events("shop_requests_total", labels, rate * part)
                answered += increments
                yield self._counter(
                    "shop_requests_total", labels, increments, "", "Requests answered."
                )
        yield from self._durations(instance, answered)

    def _durations(self, instance: str, answered: Floats) -> Iterator[DemoSeries]:
        name, labels = "shop_request_duration_seconds", {"instance": instance}
        text = "Time to answer a request."
        # Log-normal: the median doubles at full load and grows sixfold in the burst.
        median = 0.03 * (1 + self._traffic) * (1 + 5 * self._burst) * (1 + self._leak_of(instance))
        draw = self._random(name, labels)
        below = np.zeros_like(answered)
        remaining = answered.copy()
        total = np.zeros_like(answered)
        lower = 0.0
        for bound in _BOUNDS:
            # Of those above the last bound, the part that is under this one.
            part = (_share(bound, median) - _share(lower, median)) / (1 - _share(lower, median))
            here = draw.binomial(remaining.astype(np.int64), np.clip(part, 0, 1)).astype(float)
            below, remaining = below + here, remaining - here
            total += here * (lower + bound) / 2
            yield self._counter(
                f"{name}_bucket", labels | {"le": f"{bound:g}"}, below, "seconds", text, "histogram"
            )
            lower = bound
        total += remaining * lower * 1.4
        yield self._counter(
            f"{name}_bucket", labels | {"le": "+Inf"}, answered, "seconds", text, "histogram"
        )
        yield self._counter(f"{name}_sum", labels, total, "seconds", text, "histogram")
        yield self._counter(f"{name}_count", labels, answered, "seconds", text, "histogram")

    def _process(self, instance: str) -> Iterator[DemoSeries]:
        labels = {"instance": instance}
        leak = self._leak_of(instance)
        memory = (420 + 140 * self._traffic + 1_500 * leak) * _MIB
        yield self._gauge(
            "process_resident_memory_bytes",
            labels,
            memory,
            6 * _MIB,
            "bytes",
            "Memory in use.",
            digits=0,
        )
        started = np.full(len(self._ts_ms), float(self._ts_ms[0] // 1000 - 86_400))
        for at in self._restarts.get(instance, ()):
            started[at:] = self._ts_ms[at] // 1000
        yield self._exact(
            "process_start_time_seconds", labels, started, "seconds", "When it began."
        )
        busy = self._interval_s * (0.05 + 0.5 * self._traffic + 0.3 * leak)
        yield self._counter(
            "process_cpu_seconds_total",
            labels,
            np.round(self._noisy("process_cpu_seconds_total", labels, busy, busy * 0.05), 3),
            "seconds",
            "Processor time used.",
        )
        files = 60 + 180 * self._traffic + 200 * self._burst
        yield self._gauge("process_open_fds", labels, files, 4, "", "Open files.", digits=0)
        for way, size in (("receive", 900), ("transmit", 14_000)):
            metric = f"shop_network_{way}_bytes_total"
            sent = self._events(metric, labels, 4 * self._traffic) * size
            yield self._counter(metric, labels, sent, "bytes", f"Bytes, {way}.")
        yield self._exact("up", labels, np.ones(len(self._ts_ms)), "", "1 while it answers.")

    def _business(self) -> Iterator[DemoSeries]:
        failing = 1 - 0.6 * self._burst
        for payment, part in (("card", 0.7), ("invoice", 0.25), ("voucher", 0.05)):
            labels = {"payment": payment}
            orders = self._events("shop_orders_total", labels, 0.3 * part * self._traffic * failing)
            yield self._counter("shop_orders_total", labels, orders, "", "Orders placed.")
            value = np.round(orders * 42.5, 2)
            yield self._counter("shop_revenue_euros_total", labels, value, "euros", "Revenue.")
        for queue, at_noon in _QUEUES.items():
            depth = at_noon * self._traffic + 120 * at_noon * _slow_decay(self._burst)
            yield self._gauge(
                "shop_queue_depth", {"queue": queue}, depth, 0.8, "", "Jobs waiting.", digits=0
            )
            ends = {"done": 0.99 * failing, "failed": 0.01 + 0.2 * self._burst}
            for result, ratio in ends.items():
                labels = {"queue": queue, "result": result}
                jobs = self._events("shop_jobs_total", labels, at_noon / 4 * self._traffic * ratio)
                yield self._counter("shop_jobs_total", labels, jobs, "", "Jobs ended.")
        for region, hours in (("europe", 0), ("america", 7), ("asia", -7)):
            here = rhythm(self._ts_ms - hours * HOUR_MS) * 260
            yield self._gauge(
                "shop_active_users", {"region": region}, here, 6, "", "Visitors.", digits=0
            )
        for cache, found in (("pages", 0.9), ("products", 0.75)):
            for outcome, part in (("hit", found), ("miss", 1 - found)):
                labels = {"cache": cache, "outcome": outcome}
                reads = self._events("shop_cache_reads_total", labels, 9 * part * self._traffic)
                yield self._counter("shop_cache_reads_total", labels, reads, "", "Cache reads.")

    def _machines(self) -> Iterator[DemoSeries]:
        for state, at_noon in (("active", 18.0), ("idle", 12.0)):
            used = 2 + at_noon * self._traffic * (1 + 1.5 * self._burst * (state == "active"))
            yield self._gauge(
                "shop_db_connections", {"state": state}, used, 1, "", "Connections.", digits=0
            )
        days = (self._ts_ms - self._ts_ms[0]) / DAY_MS
        for volume, size, start, growth in (("data", 500, 310, 11.5), ("logs", 80, 12, 2.1)):
            labels, gib = {"volume": volume}, 2.0**30
            cleaned = (days % 4) * growth if volume == "logs" else days * growth
            used = (start + cleaned + 0.4 * growth * self._traffic) * gib
            yield self._gauge(
                "shop_disk_used_bytes", labels, used, 0.02 * gib, "bytes", "Space used.", digits=0
            )
            whole = np.full(len(days), size * gib)
            yield self._exact("shop_disk_size_bytes", labels, whole, "bytes", "Space there is.")
        sun = np.sin((self._ts_ms % DAY_MS / DAY_MS - 0.375) * 2 * np.pi)
        for number, rack in enumerate("abcd"):
            warm = 22 + number + 1.5 * sun + 4 * self._traffic
            yield self._gauge(
                "shop_temperature_celsius", {"rack": rack}, warm, 0.15, "celsius", "Of the intake."
            )
        night = (self._ts_ms - 2 * HOUR_MS) // DAY_MS
        taken = 600 + 25.0 * (night - night[0])
        yield self._gauge(
            "shop_backup_duration_seconds", {}, taken, 1, "seconds", "Of the last backup."
        )
        last = (night * DAY_MS + 2 * HOUR_MS) / 1000
        yield self._exact(
            "shop_backup_last_success_timestamp_seconds", {}, last, "seconds", "Last backup."
        )

    # Values

    def _leak_of(self, instance: str) -> Floats:
        return self._leak if instance == _LEAKING else np.zeros(len(self._ts_ms))

    def _random(self, metric: str, labels: Mapping[str, str]) -> np.random.Generator:
        """A generator for this series alone, so that adding a series changes no other."""
        name = f"{metric}{sorted(labels.items())}".encode()
        return np.random.default_rng([self._seed, int(self._ts_ms[-1]), zlib.crc32(name)])

    def _events(self, metric: str, labels: Mapping[str, str], rate: Floats) -> Floats:
        """How often something happened in each interval, at `rate` a second."""
        draw = self._random(metric, labels)
        return draw.poisson(np.maximum(rate, 0) * self._interval_s).astype(float)

    def _noisy(
        self, metric: str, labels: Mapping[str, str], values: Floats, spread: float | Floats
    ) -> Floats:
        return np.maximum(
            values + self._random(metric, labels).normal(0, 1, len(values)) * spread, 0
        )

    def _counter(
        self,
        metric: str,
        labels: Mapping[str, str],
        increments: Floats,
        unit: str,
        text: str,
        kind: MetricType = "counter",
    ) -> DemoSeries:
        """Sum of the increments since its server was last restarted."""
        total = np.cumsum(increments)
        for at in self._restarts.get(labels.get("instance", ""), ()):
            total[at:] -= total[at - 1] if at else 0
        return self._series(metric, labels, np.round(total, 3), kind, unit, text)

    def _gauge(
        self,
        metric: str,
        labels: Mapping[str, str],
        values: Floats,
        spread: float,
        unit: str,
        text: str,
        digits: int = 2,
    ) -> DemoSeries:
        noisy = np.round(self._noisy(metric, labels, values, spread), digits)
        return self._series(metric, labels, noisy, "gauge", unit, text)

    def _exact(
        self, metric: str, labels: Mapping[str, str], values: Floats, unit: str, text: str
    ) -> DemoSeries:
        return self._series(metric, labels, values, "gauge", unit, text)

    def _series(
        self,
        metric: str,
        labels: Mapping[str, str],
        values: Floats,
        kind: MetricType,
        unit: str,
        text: str,
    ) -> DemoSeries:
        tags = {**labels, "job": JOB, "generated": "true"}
        definition = define(
            metric, tags, metric_type=kind, unit=unit, help_text=f"{text} Generated."
        )
        return DemoSeries(definition, values)


def rhythm(ts_ms: npt.NDArray[np.int64]) -> Floats:
    """Traffic of a shop by the hour and the day of the week, UTC: 0.06 at night, 1 at best."""
    hour = (ts_ms % DAY_MS) / HOUR_MS
    midday = np.exp(-(((hour - 13) / 3.5) ** 2))
    evening = 0.8 * np.exp(-(((hour - 20) / 2.2) ** 2))
    weekday = (ts_ms // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    week = np.array([0.85, 0.8, 0.8, 0.85, 0.9, 1.0, 0.7])[weekday]
    return np.asarray((0.08 + 0.92 * np.clip(midday + evening, 0, 1)) * week)


def _within(times: npt.NDArray[np.int64], span: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return (times >= span[0]) & (times < span[1])


def _share(bound: float, median: Floats) -> Floats:
    """Part of log-normal durations (sigma 0.8) under a bound; a logistic curve is near enough."""
    if bound == 0:
        return np.zeros_like(median)
    return np.asarray(1 / (1 + np.exp(-1.7 * np.log(bound / median) / 0.8)))


def _slow_decay(pulse: Floats, keep: float = 0.93) -> Floats:
    """The pulse, and what is left of it afterwards: a backlog is worked off."""
    level = 0.0
    out = np.empty_like(pulse)
    for i, value in enumerate(pulse.tolist()):
        level = max(value, level * keep)
        out[i] = level
    return out
