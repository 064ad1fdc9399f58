"""What the query service says of itself at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Telemetry:
    """One service's metrics, in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "varve_query_requests_total",
            "Requests answered, by route and HTTP status.",
            ("route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "varve_query_request_duration_seconds",
            "Time from a request's arrival to its answer, by route.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.samples = Counter(
            "varve_query_samples_total",
            "Samples that evaluations have read, each once for every window that it was in.",
            registry=self._registry,
        )
        self.series = Gauge(
            "varve_query_series",
            "Series in the label index.",
            registry=self._registry,
        )
        self.cached_bytes = Gauge(
            "varve_query_cache_bytes",
            "Decoded samples held in memory.",
            registry=self._registry,
        )
        self.version = Gauge(
            "varve_query_table_version",
            "Version of each table that queries read now.",
            ("table",),
            registry=self._registry,
        )
        self.complete_until = Gauge(
            "varve_query_complete_until_seconds",
            "Everything produced up to this Unix time can be queried; 0 while unknown.",
            registry=self._registry,
        )
        self.poll_failures = Counter(
            "varve_query_poll_failures_total",
            "Looks at the tables' logs that failed and were tried again.",
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self._registry)
