"""Speed of the client: `python tests/benchmarks/bench_client.py [--samples 1000000] [--runs 3]`.

Sends samples of 1,000 series of five labels to a broker of its own, as JSON and as Arrow, and
prints for each: samples a second until all are acknowledged, microseconds of this process' CPU a
sample (making samples not included, Kafka's client included), bytes a sample before compression,
and of that CPU what encoding alone takes. Then what recording one metric by name costs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from kafka import KafkaAdminClient

from varve.client import Producer, Sample, define
from varve.client.arrow_messages import ArrowEncoder
from varve.client.messages import Encoder, JsonEncoder
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker

PARTITIONS = 4
SERIES = 1_000
BEGIN_MS = 1_700_000_000_000
CALLS = 200_000
FORMATS: tuple[Literal["json", "arrow"], ...] = ("json", "arrow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    samples = made(args.samples)
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder), heap_mb=512) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan("bench", PARTITIONS)])
        admin.close()
        for form in FORMATS:
            encoder: Encoder = (
                JsonEncoder(PARTITIONS) if form == "json" else ArrowEncoder(PARTITIONS)
            )
            encoded(encoder, samples)  # warm, and the broker would have every definition
            encode_s, size = encoded(encoder, samples)
            sent = [send(broker, form, samples) for _ in range(args.runs)]
            wall_s, cpu_s = (statistics.median(column) for column in zip(*sent, strict=True))
            say(
                f"{form:5} {len(samples) / wall_s:9,.0f} samples/s,"
                f" {cpu_s / len(samples) * 1e6:.2f} µs CPU a sample"
                f" (encoding {encode_s / len(samples) * 1e6:.2f}), {size / len(samples):.1f} B"
            )
        for name, record in recorders().items():
            costs = [recording(broker, record) for _ in range(args.runs)]
            say(f"{name:9} {statistics.median(costs) * 1e6:.2f} µs CPU a call")


def made(count: int) -> list[Sample]:
    series = [
        define(
            "http_requests_total",
            {
                "job": "shop",
                "instance": f"10.0.{n // 250}.{n % 250}:8080",
                "path": f"/api/v1/{n % 20}",
                "method": "GET",
                "code": "200",
            },
            metric_type="counter",
        )
        for n in range(SERIES)
    ]
    return [
        Sample(series[n % SERIES], BEGIN_MS + n // SERIES * 15_000, n * 0.25) for n in range(count)
    ]


def encoded(encoder: Encoder, samples: list[Sample]) -> tuple[float, int]:
    """CPU seconds and bytes."""
    cpu = time.process_time()
    size = 0
    for message in encoder.messages(samples):
        encoder.delivered(message)
        size += len(message.value)
    return time.process_time() - cpu, size


def send(
    broker: Broker, form: Literal["json", "arrow"], samples: list[Sample]
) -> tuple[float, float]:
    """Wall and CPU seconds of all threads of this process."""
    with Producer(broker.bootstrap_servers, "bench", format=form, block_s=60) as producer:
        wall, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(samples), 10_000):
            producer.put(samples[start : start + 10_000])
        if not producer.flush(120) or producer.counts().lost:
            raise SystemExit(f"not all arrived: {producer.counts()}")
        return time.perf_counter() - wall, time.process_time() - cpu


def recorders() -> dict[str, Callable[[Producer, int], None]]:
    tags = [{"path": f"/api/{n}", "code": "200"} for n in range(20)]
    return {
        "gauge": lambda p, n: p.gauge("g", n, tags[n % 20]),
        "counter": lambda p, n: p.counter("c_total", 1, tags[n % 20]),
        "histogram": lambda p, n: p.histogram("h_seconds", n * 1e-6, tags[n % 20]),
        "summary": lambda p, n: p.summary("s_seconds", n * 1e-6, tags[n % 20]),
    }


def recording(broker: Broker, record: Callable[[Producer, int], None]) -> float:
    """CPU seconds a call, sending included."""
    with Producer(broker.bootstrap_servers, "bench", block_s=60) as producer:
        cpu = time.process_time()
        for n in range(CALLS):
            record(producer, n)
        producer.flush(120)
        return (time.process_time() - cpu) / CALLS


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
