"""Text expositions, OTLP and StatsD, samples a CPU second: part of bench_gateway.

One process without HTTP and Kafka. A stage has all those before it: `decode` is from the body as it
comes to a request of remote write, `whole` goes on to the messages for Kafka. Series are known: the
first round, which is printed apart, is their first sight. StatsD counts lines, and flushes as often
as there were 500,000 of them.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from varve.gateway.decoded import Bounds
from varve.gateway.exposition.formats import OPEN_METRICS, TEXT
from varve.gateway.first_sight import Input, Targets
from varve.gateway.messages import SampleColumns, encode
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.remote_write import RemoteWriteDecoder, rows_needed
from varve.gateway.replicas import Replicas
from varve.gateway.scrape.assembly import Assembly
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.targets import Target
from varve.gateway.series_table import SeriesTable
from varve.gateway.startup import make_ready
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.write_request import Message

NOW_MS = 1_795_740_000_000
_PARTITIONS = 4
_BATCH = 16_000
_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
_LINES_A_PACKET, _LINES_A_FLUSH = 10, 500_000

Decode = Callable[[bytes, int], Message | None]
"""Of a body that comes at a time, ms."""


class Road:
    """From a message of remote write to the messages for Kafka."""

    def __init__(self) -> None:
        self._decoder = RemoteWriteDecoder(
            SeriesTable(lambda: 1, 1 << 24), Targets(_PARTITIONS), Replicas()
        )
        self._columns = SampleColumns.empty(2_100_000)

    def take(self, message: Message) -> None:
        columns = self._columns
        if columns.rows + rows_needed(len(message.content)) > len(columns.ids):
            self._send()
        bounds = Bounds(-(1 << 62), 1 << 62)
        self._decoder.decode(message.content, message.version, Input(), bounds, columns)
        if columns.rows >= _BATCH:
            self._send()

    def _send(self) -> None:
        sum(len(message.value) for message in encode(self._columns, {}))
        self._columns.rows = 0


def measure_all(kinds: Sequence[str], samples: int, request: int, runs: int) -> None:
    """samples: of a round, or lines. request: those of a body."""
    make_ready()
    for kind in kinds:
        bodies, decode = KINDS[kind](request, max(samples // request, 1))
        measure(kind, bodies, decode, request, runs)


def measure(kind: str, bodies: Sequence[bytes], decode: Decode, request: int, runs: int) -> None:
    samples = len(bodies) * request
    size = sum(map(len, bodies)) / samples
    print(f"{kind}: {samples:,} samples in {len(bodies)} bodies, {size:.1f} B each", flush=True)
    for stage in ("decode", "whole"):
        road = Road()
        found = []
        for number in range(runs + 1):
            begun = time.process_time()
            for n, body in enumerate(bodies):
                message = decode(body, NOW_MS + 15_000 * (number * len(bodies) + n))
                if message is not None and stage == "whole":
                    road.take(message)
            rate = samples / (time.process_time() - begun) / 1e6
            if number:
                found.append(rate)
            else:
                print(f"  {stage:8} first sights {rate:6.3f} M/CPU s", flush=True)
        least, most = min(found), max(found)
        middle = statistics.median(found)
        print(f"  {stage:8} median {middle:6.3f} M/CPU s ({least:.3f} to {most:.3f})", flush=True)


def text(request: int, count: int) -> tuple[list[bytes], Decode]:
    """A target of counters, gauges and histograms, as the Go client exposes it."""
    return [_page(request, n, is_open=False) for n in range(count)], _scraped(TEXT)


def open_metrics(request: int, count: int) -> tuple[list[bytes], Decode]:
    """The same as OpenMetrics, a start for each counter and histogram not counted."""
    return [_page(request, n, is_open=True) for n in range(count)], _scraped(OPEN_METRICS)


def otlp(request: int, count: int) -> tuple[list[bytes], Decode]:
    """Counters and gauges of ten processes, as the SDKs and the Collector write them."""
    return [_export(request, n) for n in range(count)], _exported()


def histograms(request: int, count: int) -> tuple[list[bytes], Decode]:
    """Histograms of 11 bounds: 14 samples each."""
    return [_export(request, n, buckets=True) for n in range(count)], _exported()


def statsd(request: int, count: int) -> tuple[list[bytes], Decode]:
    """Counters, gauges and timers of 5,000 series, ten lines a packet."""
    rng = random.Random(1)
    kinds = ("c", "g", "ms", "h")
    bodies = []
    for _ in range(count):
        lines = []
        for _ in range(request):
            series = rng.randrange(5_000)
            value = rng.randrange(1, 100) if series % 4 == 0 else round(rng.random() * 1000, 3)
            tags = f"code:{series % 5},handler:/api/{series % 50},region:eu-{series % 3}"
            lines.append(f"web.requests_{series % 1_000}:{value}|{kinds[series % 4]}|#{tags}")
        packets = [
            "\n".join(lines[n : n + _LINES_A_PACKET]) for n in range(0, len(lines), _LINES_A_PACKET)
        ]
        bodies.append("\0".join(packets).encode())
    aggregation = Aggregation(_BOUNDS)
    taken = 0

    def decode(body: bytes, now_ms: int) -> Message | None:
        nonlocal taken
        for packet in body.split(b"\0"):
            aggregation.take(packet, now_ms)
        taken += request
        return aggregation.flush(now_ms).message() if taken % _LINES_A_FLUSH == 0 else None

    return bodies, decode


def _scraped(kind: str) -> Decode:
    target = Target("http://i:1/metrics", {"job": "j", "instance": "i:1"}, {}, 15_000, 10_000)
    assembly = Assembly(ScrapeConfig(job_name="j"), target)

    def decode(body: bytes, now_ms: int) -> Message:
        found = assembly.read(body, kind)
        return assembly.take(found, now_ms, 0.01, len(body))[0].message()

    return decode


def _exported() -> Decode:
    protocol = OtlpHttp(OtlpConfig(), None)
    return lambda body, _: protocol.read(body)


def _page(samples: int, number: int, *, is_open: bool) -> bytes:
    rng = random.Random(number)
    lines: list[str] = []
    left, family = samples, 0
    while left > 0:
        kind = ("counter", "gauge", "histogram")[family % 3]
        name = f"http_server_{kind}_{family}"
        suffix = "_total" if kind == "counter" else ""
        shown = name if is_open else name + suffix
        lines += [f"# HELP {shown} What is measured here.", f"# TYPE {shown} {kind}"]
        for n in range(min(left, 30)):
            labels = f'code="{200 + n % 5}",handler="/api/v1/path/{n // 5}",method="GET"'
            if kind == "histogram":
                bound = "+Inf" if n % 12 == 11 else f"{_BOUNDS[n % 12]:g}"
                lines.append(
                    f'{name}_bucket{{handler="/api/v1/path/{n // 12}",le="{bound}"}}'
                    f" {rng.randrange(10**6)}"
                )
            elif kind == "counter":
                lines.append(f"{name}{suffix}{{{labels}}} {rng.randrange(10**7):g}")
            else:
                lines.append(f"{name}{{{labels}}} {rng.random() * 1e3!r}")
        left -= 30
        family += 1
    return ("\n".join(lines) + ("\n# EOF\n" if is_open else "\n")).encode()


def _export(samples: int, number: int, *, buckets: bool = False) -> bytes:
    rng = random.Random(number)
    export = ExportMetricsServiceRequest()
    at_ns = (NOW_MS + 15_000 * number) * 1_000_000
    processes = 10
    each = samples // processes // (len(_BOUNDS) + 3 if buckets else 1)
    for process in range(processes):
        of_resource = export.resource_metrics.add()
        for key, value in (("service.name", "shop"), ("service.instance.id", f"i-{process}")):
            of_resource.resource.attributes.add(key=key).value.string_value = value
        of_scope = of_resource.scope_metrics.add()
        of_scope.scope.name = "io.opentelemetry.http"
        left, family = each, 0
        while left > 0:
            metric = of_scope.metrics.add(name=f"http.server.{family}", unit="s", description="D.")
            data = metric.histogram if buckets else metric.sum if family % 2 else metric.gauge
            if buckets or family % 2:
                data.aggregation_temporality = (
                    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
                )
            for n in range(min(left, 50)):
                point = data.data_points.add(
                    time_unix_nano=at_ns, start_time_unix_nano=NOW_MS * 1_000_000
                )
                for key, value in (
                    ("http.route", f"/api/v1/path/{n}"), ("http.request.method", "GET"),
                    ("http.response.status_code", "200"),
                ):  # fmt: skip
                    point.attributes.add(key=key).value.string_value = value
                if buckets:
                    counts = [rng.randrange(1_000) for _ in range(len(_BOUNDS) + 1)]
                    point.bucket_counts.extend(counts)
                    point.explicit_bounds.extend(_BOUNDS)
                    point.count, point.sum = sum(counts), rng.random() * 1e4
                elif family % 2:
                    point.as_int = rng.randrange(10**9)
                else:
                    point.as_double = rng.random()
            left -= 50
            family += 1
    return export.SerializeToString()


KINDS = {
    "text": text,
    "open-metrics": open_metrics,
    "otlp": otlp,
    "histograms": histograms,
    "statsd": statsd,
}
