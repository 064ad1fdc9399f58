"""Many targets scraped by one process: CPU seconds, and whether every interval was kept.

    python tests/benchmarks/bench_scrape.py [--targets 500] [--lines 500] [--interval 15]
        [--seconds 120] [--takeover]

A server in a process of its own is every target; it notes when each is read, and its values change.
An interval is missed where a target is read over half an interval late. The first interval, in
which targets start at their moments and every line is new, counts for nothing. --takeover: then two
instances share the targets, one is killed, and it is measured how long until the other has read all
of its targets.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from kafka import KafkaAdminClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_ingest import cpu_s
from tests.integration.gateway.test_scrape_shares import Instance, until
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker

TOPIC = "bench-scrape"
Reads = dict[str, list[float]]
"""By path of a target, when it was read, Unix s."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--lines", type=int, default=500, help="samples of a target")
    parser.add_argument("--interval", type=int, default=15, help="seconds")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--takeover", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="bench-scrape-"))
    try:
        with Broker(folder / "kafka") as broker, targets(args.lines) as (port, reads):
            admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
            ensure_topics(admin, [TopicPlan(TOPIC, 8)])
            admin.close()
            config = folder / "prometheus.yml"
            addresses = ", ".join(
                f'{{targets: ["127.0.0.1:{port}"], labels: {{__metrics_path__: /t{n}, n: "{n}"}}}}'
                for n in range(args.targets)
            )
            config.write_text(
                f"global: {{scrape_interval: {args.interval}s}}\n"
                f"scrape_configs: [{{job_name: many, static_configs: [{addresses}]}}]\n"
            )
            servers = broker.bootstrap_servers
            is_kept = measure(folder, config, servers, args, reads)
            if args.takeover:
                is_kept &= measure_takeover(folder, config, servers, args, reads)
            return 0 if is_kept else 1
    finally:
        shutil.rmtree(folder)


def measure(
    folder: Path, config: Path, servers: str, args: argparse.Namespace, reads: Connection
) -> bool:
    """Whether every interval was kept."""
    with running(folder / "one", config, servers) as instance:
        until(lambda: len(read(reads)) == args.targets)
        begun, process = time.time(), psutil.Process(instance.process.pid)
        time.sleep(args.interval)
        before, since = cpu_s(process), time.time()
        time.sleep(args.seconds)
        used, lasted = cpu_s(process) - before, time.time() - since
        memory = process.memory_full_info().pss
        found = read(reads)
    gaps = [
        later - earlier
        for times in found.values()
        for earlier, later in itertools.pairwise(t for t in times if t > begun)
    ]
    missed = sum(gap > 1.5 * args.interval for gap in gaps)
    late_ms = sorted(abs(gap - args.interval) * 1000 for gap in gaps)
    scrapes = sum(since < t < since + lasted for times in found.values() for t in times)
    p99_ms = late_ms[len(late_ms) * 99 // 100]
    print(
        f"{args.targets} targets of {args.lines} samples every {args.interval} s in {lasted:.0f} s:"
        f" {missed} of {len(gaps):,} intervals missed,"
        f" off by {statistics.median(late_ms):.1f} ms, p99 {p99_ms:.0f} ms"
    )
    targets_a_core = args.targets * lasted / used
    print(
        f"{100 * used / lasted:.1f} % of a core: {targets_a_core:,.0f} targets a core,"
        f" {scrapes * args.lines / used / 1e6:.2f} M samples a CPU second; {memory >> 20} MiB"
    )
    return not missed


def measure_takeover(
    folder: Path, config: Path, servers: str, args: argparse.Namespace, reads: Connection
) -> bool:
    """Whether all targets of an instance that was killed were read within 15 s and an interval."""
    quick = folder / "quick.yml"
    quick.write_text(config.read_text().replace(f"{args.interval}s", "1s"))
    with running(folder / "a", quick, servers) as first, running(folder / "b", quick, servers):
        addresses: set[str] = set()

        def is_shared() -> bool:
            addresses.clear()
            addresses.update(first.paths())
            return 0 < len(addresses) < args.targets

        until(is_shared)
        first.process.kill()
        killed = time.time()

        def are_all_read() -> bool:
            found = read(reads)
            return all(found[path][-1] > killed + 0.5 for path in addresses)

        until(are_all_read)
        first_reads = [
            next(t for t in times if t > killed + 0.5)
            for path, times in read(reads).items()
            if path in addresses
        ]
    took_s = max(first_reads) - killed
    print(f"{len(addresses)} targets of an instance that was killed: all read after {took_s:.1f} s")
    return took_s <= 15 + 1


class _Instance(Instance):
    def paths(self) -> set[str]:
        """Paths of the targets that it scrapes."""
        return {f"/t{target['labels']['n']}" for target in self.targets()}


@contextmanager
def running(home: Path, config: Path, servers: str) -> Iterator[_Instance]:
    home.mkdir()
    instance = _Instance(home, config, servers, TOPIC)
    try:
        yield instance
    finally:
        instance.process.kill()
        instance.process.wait()


@contextmanager
def targets(lines: int) -> Iterator[tuple[int, Connection]]:
    """A server of targets in a process of its own: its port, and whom to ask for Reads."""
    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(its, lines))
    process.start()
    try:
        yield mine.recv(), mine
    finally:
        process.kill()
        process.join()


def read(reads: Connection) -> Reads:
    reads.send(None)
    found: Reads = reads.recv()
    return found


def serve(asked: Connection, lines: int) -> None:
    asyncio.run(_serve(asked, lines))


async def _serve(asked: Connection, lines: int) -> None:
    rng = random.Random(1)
    page = "".join(
        f'http_requests_total{{code="200",handler="/api/v1/path/{n}",method="GET"}} @{n}\n'
        if n % 2
        else f'process_seconds{{code="{n}",region="eu"}} {rng.random()}@\n'
        for n in range(lines)
    ).encode()
    found: Reads = defaultdict(list)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                found[path].append(time.time())
                body = page.replace(b"@", str(len(found[path])).encode())
                kind = "text/plain; version=0.0.4"
                start = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}"
                writer.write(start.encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    asked.send(server.sockets[0].getsockname()[1])

    def tell() -> None:
        asked.recv()
        asked.send(found)

    asyncio.get_running_loop().add_reader(asked.fileno(), tell)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
