"""The registry of a process's metrics, and the page that /metrics answers, which is consistent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from varve import __version__

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Declared:
    """What the code says of one metric, for documents and tests."""

    name: str
    """The name as queries spell it, with `_total`; a histogram's without `_bucket`."""
    kind: Kind
    labels: tuple[str, ...]
    help: str


class Telemetry:
    """The metrics of one process. Thread-safe.

    >>> telemetry = Telemetry()
    >>> failures = telemetry.counter("varve_x_failures_total", "What failed.", "what")
    >>> failures.labels("disk").inc()
    >>> text, kind = telemetry.page("")
    >>> 'varve_x_failures_total{what="disk"} 1.0' in text.decode()
    True
    """

    def __init__(self) -> None:
        # The client would add a series for each counter's start: resets show without it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._lock = threading.RLock()
        self.registry: CollectorRegistry = _ConsistentRegistry(self._lock)
        self.declared: list[Declared] = []
        build = self.gauge("varve_build_info", "Always 1; the version of Varve.", "version")
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Changes within this block are on a page all or not at all, so that sums hold there."""
        with self._lock:
            yield

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type. accept: the request's header, which may ask for
        OpenMetrics, which has units; otherwise the page is in the text format of Prometheus.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def counter(self, name: str, text: str, *labels: str, unit: str = "") -> Counter:
        self._declare(name, "counter", labels, text)
        return Counter(name, text, labels, unit=unit, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str, unit: str = "") -> Gauge:
        self._declare(name, "gauge", labels, text)
        return Gauge(name, text, labels, unit=unit, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, buckets: Iterable[float]) -> Histogram:
        """A histogram of seconds."""
        self._declare(name, "histogram", labels, text)
        return Histogram(
            name, text, labels, unit="seconds", buckets=tuple(buckets), registry=self.registry
        )

    def computed(self, *families: Declared, read: Callable[[], Iterable[Metric]]) -> None:
        """Declares metrics whose values are read when the page is."""
        self.declared += families
        self.registry.register(_Computed(read))

    def _declare(self, name: str, kind: Kind, labels: tuple[str, ...], text: str) -> None:
        self.declared.append(Declared(name, kind, labels, text))


class _ConsistentRegistry(CollectorRegistry):
    """Collects only while no changes that belong together are under way."""

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__()
        self._between = lock

    def collect(self) -> Iterator[Metric]:
        with self._between:
            families = list(super().collect())
        yield from families


class _Computed:
    """A collector that reads its values when it is collected."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()

    def describe(self) -> Iterable[Metric]:
        """Says nothing, so that nothing is read when it is registered."""
        return ()
