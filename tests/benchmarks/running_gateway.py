"""A gateway's process for benchmarks, and senders of requests that are made ahead."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from kafka import KafkaAdminClient

from tests.benchmarks.bench_ingest import cpu_s
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port

PARTITIONS = 4
START_S = 120
DRAIN_S = 300
_HEADERS = {
    1: "application/x-protobuf",
    2: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
}


class Answered(NamedTuple):
    """What became of a request. seconds: from when it was due. late_s: how much of that had passed
    when its sender began to write it, which is the sender's doing, not the gateway's.
    """

    number: int
    status: int
    seconds: float
    late_s: float


class RunningGateway:
    """A gateway's process, and topics of its own that it writes to."""

    def __init__(self, broker: Broker, folder: Path, topic: str, **settings: str) -> None:
        """settings: of the section gateway. Critical samples go to the topic TOPIC-critical."""
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        names = (topic, f"{topic}-critical")
        ensure_topics(admin, [TopicPlan(name, PARTITIONS) for name in names])
        admin.close()
        self.port = free_port()
        environment = os.environ | {
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "VARVE_KAFKA__TOPICS__RAW": topic,
            "VARVE_KAFKA__TOPICS__CRITICAL": f"{topic}-critical",
            "VARVE_KAFKA__TOPICS__HISTOGRAMS": "",
            "VARVE_KAFKA__TOPICS__EXEMPLARS": "",
            "VARVE_GATEWAY__PORT": str(self.port),
            "VARVE_RETENTION__SAMPLES_DAYS": "29",
            **{f"VARVE_GATEWAY__{name.upper()}": value for name, value in settings.items()},
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
        Every request must be taken.
        """
        before, begun = self.cpu_s(), time.monotonic()
        with sending(bodies, self.port, version, connections, every_s) as answers:
            found = answers()
        assert {one.status for one in found} == {204}, found[0]
        return self.cpu_s() - before, time.monotonic() - begun, [one.seconds for one in found]

    def cpu_s(self) -> float:
        """CPU seconds that the gateway has used."""
        return sum(cpu_s(one) for one in self._all())

    def memory(self) -> int:
        """Bytes of its proportional set size."""
        return sum(int(one.memory_full_info().pss) for one in self._all())

    @contextmanager
    def peak_memory(self) -> Iterator[Callable[[], int]]:
        """Looks at the memory every half second meanwhile. Gives what tells the most so far."""
        most, stopping = [self.memory()], threading.Event()

        def look() -> None:
            while not stopping.wait(0.5):
                most[0] = max(most[0], self.memory())

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield lambda: most[0]
        finally:
            stopping.set()
            looking.join()

    def page(self) -> str:
        """Its own metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return str(answer.read().decode())

    def wait_until_spools_are_empty(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while any(
            line.startswith("varve_gateway_spool_bytes{") and float(line.split()[-1])
            for line in self.page().splitlines()
        ):
            if time.monotonic() > deadline:
                raise SystemExit("the spool does not become empty")
            time.sleep(0.2)

    def take_one(self, body: bytes) -> None:
        """Sends a request of version 1.0, which must be taken."""
        url, headers = (
            f"http://127.0.0.1:{self.port}/api/v1/write",
            {
                "content-type": _HEADERS[1],
                "content-encoding": "snappy",
            },
        )
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            assert answer.status == 204

    def _all(self) -> list[psutil.Process]:
        return [self._watched, *self._watched.children(recursive=True)]


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


@contextmanager
def sending(
    bodies: Sequence[bytes],
    port: int,
    version: int,
    connections: int,
    every_s: float,
    *,
    niceness: int = 0,
) -> Iterator[Callable[[], list[Answered]]]:
    """Sends requests from a process of its own meanwhile. Gives what waits for all answers.
    niceness: by how much it yields to others of the machine; below 0 wants root.
    """
    held = (bodies, niceness)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _hold, held) as pool:
        waits = pool.submit(_send_held, port, version, connections, every_s)
        yield waits.result


_held: list[bytes] = []


def _hold(bodies: list[bytes], niceness: int) -> None:
    _held[:] = bodies
    if niceness:
        os.nice(niceness)


def _send_held(port: int, version: int, connections: int, every_s: float) -> list[Answered]:
    return asyncio.run(send_all(_held, port, version, connections, every_s))


async def send_all(
    bodies: Sequence[bytes], port: int, version: int, connections: int, every_s: float
) -> list[Answered]:
    """Sends each once, the next one by whichever connection is free."""
    waiting = iter(enumerate(bodies))
    found: list[Answered] = []
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
            late_s = time.monotonic() - due
            writer.write(head.encode() + body)
            status = await _status(reader)
            found.append(Answered(number, status, time.monotonic() - due, late_s))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return found


async def _status(reader: asyncio.StreamReader) -> int:
    """Reads an answer, whatever its body, and returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return int(head[9:12])
