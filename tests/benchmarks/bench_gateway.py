"""Remote write to stored samples: gateway, Kafka, ingest; samples a CPU second of each and of all.

    python tests/benchmarks/bench_gateway.py --data DIR [--version 2] [--samples 4000000] [--runs 3]
        [--request 5000] [--connections 8] [--decode] [--protocols text,statsd]

DIR holds the dataset of 10,000 series (dataset.py --out DIR --end now). Its samples become requests
as Prometheus sends them, one sample a series, made ahead; a process of its own sends them. The
gateway's CPU is that of its process; then ingest stores what Kafka has, as bench_ingest measures
it. Neither the sender nor the broker counts. --decode: no HTTP and no Kafka, the kernels alone.
--protocols: these instead of remote write, up to the messages for Kafka, as protocol_rates has it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_ingest import Bench, say
from tests.benchmarks.made_requests import RequestsV1, RequestsV2, snappy
from tests.benchmarks.protocol_rates import KINDS, measure_all
from tests.benchmarks.running_gateway import PARTITIONS, RunningGateway
from varve.gateway.decoded import Bounds
from varve.gateway.first_sight import Input, Targets
from varve.gateway.messages import SampleColumns, encode
from varve.gateway.negotiation import Version
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesTable
from varve.gateway.snappy import expand
from varve.gateway.startup import make_ready
from varve.local.broker import Broker
from varve.model.identity import SeriesDefinition


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--version", type=int, choices=(1, 2), default=1, help="of remote write")
    parser.add_argument("--samples", type=int, default=4_000_000)
    parser.add_argument("--request", type=int, default=5_000, help="samples of a request")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--new-series", type=int, default=0, metavar="N", help="only these")
    parser.add_argument("--protocols", type=lambda t: t.split(","), help=f"of {','.join(KINDS)}")
    args = parser.parse_args()
    if args.protocols:
        measure_all(args.protocols, args.samples, args.request, args.runs)
        return
    if args.new_series:
        first_sights(args)
        return
    bodies = [snappy(body) for body in requests(args)]
    sizes = sum(map(len, bodies)) / args.samples
    made = f"{len(bodies)} requests of version {args.version}, {sizes:.1f} B a sample"
    say(f"{args.samples:,} samples in {made}")
    if args.decode:
        decode(bodies, args)
    else:
        whole(bodies, args)


def requests(args: argparse.Namespace) -> Iterator[bytes]:
    """Requests of the dataset's samples in the order of arrival."""
    labels = {
        row["series_id"]: sorted([("__name__", row["metric"]), *row["tags"]])
        for row in pq.read_table(args.data / "series.parquet").to_pylist()
    }
    write = (RequestsV1 if args.version == 1 else RequestsV2)(labels).write
    left = args.samples
    for group in pq.ParquetFile(args.data / "samples.parquet").iter_batches(
        batch_size=args.request
    ):
        ids, ts, values = (column.to_numpy()[:left] for column in group.columns[:3])
        if not len(ids):
            return
        left -= len(ids)
        yield write(ids.tolist(), ts.tolist(), values)


def first_sights(args: argparse.Namespace) -> None:
    """From snappy to messages with definitions, each series new."""
    make_ready()
    decoder = RemoteWriteDecoder(SeriesTable(lambda: 1, 1 << 24), Targets(PARTITIONS), Replicas())
    columns = SampleColumns.empty(2_100_000)
    bounds = Bounds(-(1 << 62), 1 << 62)
    writer = RequestsV1 if args.version == 1 else RequestsV2
    took = 0.0
    for first in range(0, args.new_series, args.request):
        numbers = range(first, min(first + args.request, args.new_series))
        labels = {
            n: [
                ("__name__", f"http_requests_total_{n % 500}"), ("code", "200"),
                ("handler", "/api/v1/query"), ("instance", f"host-{n // 500}:9100"),
                ("job", "node"), ("region", "eu-central-1"),
            ]
            for n in numbers
        }  # fmt: skip
        ts = [1_795_740_000_000] * len(numbers)
        body = snappy(writer(labels).write(numbers, ts, np.ones(len(numbers))))
        begun = time.process_time()
        found = decoder.decode(
            expand(body, 1 << 26), Version(args.version), Input(), bounds, columns
        )
        definitions: dict[int, list[SeriesDefinition]] = {}
        for target, definition in found.definitions:
            definitions.setdefault(target, []).append(definition)
        sum(len(message.value) for message in encode(columns, definitions))
        columns.rows = 0
        took += time.process_time() - begun
    each = took / args.new_series
    say(f"{args.new_series:,} new series: {took:.1f} CPU s, {each * 1e6:.1f} us each")


def decode(bodies: list[bytes], args: argparse.Namespace) -> None:
    """From snappy to messages, series known."""
    make_ready()
    decoder = RemoteWriteDecoder(SeriesTable(lambda: 1, 1 << 24), Targets(PARTITIONS), Replicas())
    columns = SampleColumns.empty(2_100_000)
    bounds = Bounds(-(1 << 62), 1 << 62)
    for number in range(args.runs + 1):
        begun = time.process_time()
        for body in bodies:
            content = expand(body, 1 << 26)
            decoder.decode(content, Version(args.version), Input(), bounds, columns)
            if columns.rows >= 16_000:
                sum(len(message.value) for message in encode(columns, {}))
                columns.rows = 0
        took = time.process_time() - begun
        name = "first sights" if number == 0 else str(number)
        say(f"{name}: {args.samples / took / 1e6:.2f} M samples/CPU s")


def whole(bodies: list[bytes], args: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-gateway-"))
    broker = Broker(folder / "kafka", heap_mb=1024)
    broker.start()
    try:
        bench = Bench(broker, folder, 10_000)
        results = []
        for number in range(args.runs + 1):
            bench.topic = f"bench-{number}"
            seconds, wall_s, times = through_gateway(bodies, args, broker, folder, bench.topic)
            ingested = bench.run(str(number), args.samples)
            ingest_s = ingested["JVM CPU s"] + ingested["Python CPU s"]
            figures = {
                "gateway M samples/CPU s": args.samples / seconds / 1e6,
                "M samples/s": args.samples / wall_s / 1e6,
                "ingest M samples/CPU s": args.samples / ingest_s / 1e6,
                "together M samples/CPU s": args.samples / (seconds + ingest_s) / 1e6,
                "p50 of a request, ms": float(np.percentile(times, 50) * 1000),
                "p99 of a request, ms": float(np.percentile(times, 99) * 1000),
            }
            say(f"{number or 'warm-up'}: " + ", ".join(f"{v:.3f} {k}" for k, v in figures.items()))
            if number:
                results.append(figures)
        for name in results[0] if results else ():
            found = [result[name] for result in results]
            middle, least, most = statistics.median(found), min(found), max(found)
            say(f"{name:26} median {middle:7.3f} ({least:.3f} to {most:.3f})")
        bench.stop()
    finally:
        broker.stop()
        shutil.rmtree(folder)


def through_gateway(
    bodies: list[bytes], args: argparse.Namespace, broker: Broker, folder: Path, topic: str
) -> tuple[float, float, list[float]]:
    """CPU and wall seconds from the first request to the last answer, and each request's."""
    with RunningGateway(broker, folder, topic) as gateway:
        return gateway.take(bodies, version=args.version, connections=args.connections)


if __name__ == "__main__":
    main()
