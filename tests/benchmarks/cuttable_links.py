"""Links between processes that can be cut: TCP through a port of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

from varve.local.broker import free_port


class Proxy:
    """Stands before a port, and can be cut."""

    def __init__(self, port: int) -> None:
        self.port, self._to = free_port(), port
        self.is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        self.is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_writer}
        self._writers |= both
        try:
            await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
        finally:
            for one in both:
                one.transport.abort()
            self._writers -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.contextmanager
def cuttable(count: int) -> Iterator[tuple[list[Proxy], list[int], Callable[..., object]]]:
    """Proxies in a loop of their own, the ports they lead to, and what calls in that loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ports = [free_port() for _ in range(count)]
    proxies = [Proxy(port) for port in ports]
    for proxy in proxies:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
    yield proxies, ports, loop.call_soon_threadsafe
    asyncio.run_coroutine_threadsafe(_end(proxies), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _end(proxies: Iterable[Proxy]) -> None:
    """Cuts all links, and waits until what served them has noticed."""
    for proxy in proxies:
        proxy.cut()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=5)
