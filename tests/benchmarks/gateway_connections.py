"""Connections that send nothing, slowly, or bombs, beside a sender that must be served."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import cramjam
import numpy as np

from tests.benchmarks.bench_ingest import say
from tests.benchmarks.made_requests import Rounds
from tests.benchmarks.running_gateway import RunningGateway, sending
from varve.gateway.protobuf import write_varint
from varve.local.broker import Broker
from varve.services.descriptors import use_all_descriptors

_MOST_BYTES = 2**30
_RATE = 50_000.0
_REQUEST = 5_000
_SLOW, _BOMBERS = 200, 8
_HEAD = (
    "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
    "content-encoding: snappy\r\ncontent-length: {}\r\n\r\n"
)


def run(broker: Broker, folder: Path, args: argparse.Namespace) -> bool:
    """Serves a sender alone, then beside each kind of bad company. Whether all bounds were kept."""
    rate = args.rate or _RATE
    use_all_descriptors()
    worst, good = 0, True
    with RunningGateway(broker, folder, "load") as gateway:
        gateway.take(Rounds(10_000).bodies(200_000))  # so that it is warm
        company = {
            "alone": contextlib.nullcontext(),
            f"{args.idle:,} idle connections": _attack(_idle, gateway.port, args.idle),
            f"{_SLOW} slow bodies of 8 MiB": _attack(_slow, gateway.port, _SLOW),
            f"{_BOMBERS} connections with bombs": _attack(_bombs, gateway.port, _BOMBERS),
        }
        for name, one in company.items():
            bodies = Rounds(10_000).bodies(int(args.seconds * rate))
            with (
                one,
                gateway.peak_memory() as peak,
                sending(bodies, gateway.port, 1, 8, _REQUEST / rate) as answers,
            ):
                found = answers()
            statuses = Counter(answer.status for answer in found)
            p99_ms = float(np.percentile([answer.seconds for answer in found], 99)) * 1000
            say(f"beside {name}: {dict(statuses)}, p99 {p99_ms:.1f} ms; {peak() / 2**20:,.0f} MiB")
            worst = max(worst, peak())
            good &= statuses.keys() == {204}
    return good and worst < _MOST_BYTES


@contextlib.contextmanager
def _attack(kind: object, port: int, count: int) -> Iterator[None]:
    """Runs an attack in a process of its own until the block ends."""
    context = multiprocessing.get_context("fork")
    ready, stopping = context.Event(), context.Event()
    process = context.Process(target=_run, args=(kind, port, count, ready, stopping), daemon=True)
    process.start()
    assert ready.wait(120)
    try:
        yield
    finally:
        stopping.set()
        process.join(30)
        process.kill()


def _run(kind, port: int, count: int, ready: Event, stopping: Event) -> None:  # type: ignore[no-untyped-def]
    async def attack() -> None:
        outcomes: Counter[str] = Counter()
        tasks = await kind(port, count, outcomes)
        ready.set()
        await asyncio.to_thread(stopping.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if outcomes:
            say(f"  the attack was answered: {dict(outcomes)}")

    asyncio.run(attack())


async def _idle(port: int, count: int, _: Counter[str]) -> list[asyncio.Task[None]]:
    """Connections that have asked once, and then stay."""
    held = []
    for _number in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n")
        held.append((reader, writer))
    for reader, _writer in held:
        await reader.readuntil(b"\r\n\r\n")

    async def hold() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            held.clear()

    return [asyncio.create_task(hold())]


async def _slow(port: int, count: int, outcomes: Counter[str]) -> list[asyncio.Task[None]]:
    """Bodies said to have 8 MiB, of which 64 KiB come every second."""

    async def one() -> None:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_HEAD.format(8 << 20).encode())
                answer = asyncio.create_task(reader.readline())
                while not answer.done():
                    writer.write(bytes(64 << 10))
                    await asyncio.wait([answer], timeout=1.0)
                outcomes[answer.result()[:12].decode()] += 1
                writer.close()

    return [asyncio.create_task(one()) for _ in range(count)]


async def _bombs(port: int, count: int, outcomes: Counter[str]) -> list[asyncio.Task[None]]:
    """Bodies that expand to more than they may, claim to, or hold fields without end."""
    zeros = bytes(cramjam.snappy.compress_raw(bytes(100 << 20)))
    nested = bytes(cramjam.snappy.compress_raw(b"\x0a\x00" * (15 << 20)))
    lies = write_varint((1 << 32) - 1) + zeros[4:]
    bombs = [zeros, nested, lies, zeros[: len(zeros) // 2]]

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                number += 1
                body = bombs[number % len(bombs)]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_HEAD.format(len(body)).encode() + body)
                outcomes[(await reader.readline())[:12].decode()] += 1
                writer.close()

    return [asyncio.create_task(one(n)) for n in range(count)]
