"""Remote write to stored samples: gateway, Kafka, ingest; samples a CPU second of each and of all.

    python tests/benchmarks/bench_gateway.py --data DIR [--version 2] [--samples 4000000] [--runs 3]
        [--request 5000] [--connections 8] [--decode]

DIR holds the dataset of 10,000 series (dataset.py --out DIR --end now). Its samples become requests
as Prometheus sends them, one sample a series, made ahead; a process of its own sends them. The
gateway's CPU is that of its process; then ingest stores what Kafka has, as bench_ingest measures
it. Neither the sender nor the broker counts. --decode: no HTTP and no Kafka, the kernels alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import cramjam
import numpy as np
import psutil
import pyarrow.parquet as pq
from kafka import KafkaAdminClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_ingest import Bench, cpu_s, say
from varve.gateway.decoded import Bounds
from varve.gateway.first_sight import Input, Targets
from varve.gateway.messages import SampleColumns, encode
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesTable
from varve.gateway.snappy import expand
from varve.gateway.startup import make_ready
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port
from varve.model.identity import SeriesDefinition

PARTITIONS = 4
START_S = 120
_HEADERS = {
    1: "application/x-protobuf",
    2: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
}


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
    args = parser.parse_args()
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


_Labels = Mapping[int, Sequence[tuple[str, str]]]


class RequestsV1:
    """Writes requests of one sample a series."""

    def __init__(self, labels: _Labels) -> None:
        self._labels = labels
        self._heads: dict[int, bytes] = {}

    def write(self, ids: Sequence[int], ts: Sequence[int], values: np.ndarray) -> bytes:
        times = _times(ts)
        heads = [self._heads.get(i) or self._head(i) for i in ids]
        return b"".join(map(b"".join, zip(heads, _doubles(values), times, strict=True)))

    def _head(self, series_id: int) -> bytes:
        """What is before the sample's value."""
        pairs = [
            delimited_field(1, delimited_field(1, n.encode()) + delimited_field(2, v.encode()))
            for n, v in self._labels[series_id]
        ]
        return self._heads.setdefault(series_id, _series(1, b"".join(pairs)))


class RequestsV2:
    """The same in version 2.0."""

    def __init__(self, labels: _Labels) -> None:
        self._labels = labels

    def write(self, ids: Sequence[int], ts: Sequence[int], values: np.ndarray) -> bytes:
        symbols = {"": 0}
        heads = []
        for series_id in ids:
            texts = [text for pair in self._labels[series_id] for text in pair]
            refs = b"".join(write_varint(symbols.setdefault(t, len(symbols))) for t in texts)
            heads.append(_series(5, delimited_field(1, refs)))
        parts = map(b"".join, zip(heads, _doubles(values), _times(ts), strict=True))
        return b"".join([*(delimited_field(4, text.encode()) for text in symbols), *parts])


_SAMPLE_BYTES = 16


def _series(number: int, labels: bytes) -> bytes:
    """A series up to the value of its sample, which is its last field."""
    size = write_varint(len(labels) + 2 + _SAMPLE_BYTES)
    return write_varint(number << 3 | 2) + size + labels + bytes([0x12, _SAMPLE_BYTES, 0x09])


def _doubles(values: np.ndarray) -> list[bytes]:
    raw = values.tobytes()
    return [raw[at : at + 8] for at in range(0, len(raw), 8)]


def _times(ts: Sequence[int]) -> list[bytes]:
    """The field of each timestamp: 7 bytes for any of our days."""
    known = {at: b"\x10" + write_varint(at) for at in set(ts)}
    return [known[at] for at in ts]


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


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


class RunningGateway:
    """A gateway's process, and a topic of its own that it writes to."""

    def __init__(self, broker: Broker, folder: Path, topic: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(topic, PARTITIONS)])
        admin.close()
        self.port = free_port()
        environment = os.environ | {
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "VARVE_KAFKA__TOPICS__RAW": topic,
            "VARVE_KAFKA__TOPICS__HISTOGRAMS": "",
            "VARVE_KAFKA__TOPICS__EXEMPLARS": "",
            "VARVE_GATEWAY__PORT": str(self.port),
            "VARVE_RETENTION__SAMPLES_DAYS": "29",
        }
        command = [sys.executable, "-m", "varve.cli", "serve", "gateway"]
        self._process = subprocess.Popen([*command, "--home", str(folder / topic)], env=environment)
        self._watched = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        try:
            wait_until_ready(self.port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def take(
        self, bodies: list[bytes], *, version: int = 1, connections: int = 8, every_s: float = 0.0
    ) -> tuple[float, float, list[float]]:
        """CPU and wall seconds from the first request to the last answer, and each request's, from
        when it was due. every_s: seconds from one request to the next; 0: as fast as they can.
        """
        before, begun = cpu_s(self._watched), time.monotonic()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            times = pool.apply(send_all, (bodies, self.port, version, connections, every_s))
        return cpu_s(self._watched) - before, time.monotonic() - begun, times

    def memory(self) -> int:
        """Bytes of its proportional set size."""
        return int(self._watched.memory_full_info().pss)


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready") as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the gateway does not become ready")


def send_all(
    bodies: list[bytes], port: int, version: int, connections: int, every_s: float
) -> list[float]:
    return asyncio.run(_send_all(bodies, port, version, connections, every_s))


async def _send_all(
    bodies: list[bytes], port: int, version: int, connections: int, every_s: float
) -> list[float]:
    waiting = iter(enumerate(bodies))
    times: list[float] = []
    begun = time.monotonic()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, body in waiting:
            head = (
                f"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-type: {_HEADERS[version]}\r\n"
                f"content-encoding: snappy\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            due = time.monotonic()
            if every_s:
                due = begun + number * every_s
                await asyncio.sleep(due - time.monotonic())
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            times.append(time.monotonic() - due)
            assert answer.startswith(b"HTTP/1.1 204"), answer
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return times


if __name__ == "__main__":
    main()
