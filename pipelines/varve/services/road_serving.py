"""How a service on the road to Kafka serves: until it is asked to end, or a part of it fails."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from varve.api.server import Server

_TURN_S = 0.5


async def serve_until_asked(
    servers: Mapping[Server, Sequence[socket.socket] | None],
    parts: Sequence[asyncio.Task[Any]],
    turn: Callable[[], Awaitable[None]],
    close: Callable[[], Awaitable[None]],
) -> None:
    """Serves until SIGTERM or SIGINT, then answers what has come and returns. Raises what a server
    or one of the parts raises.

    servers: each with the sockets it listens on beside its own. turn: is awaited every half second.
    close: ends what the answers do not need, and the parts, before the servers are waited for.
    """

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    serving = [
        asyncio.create_task(server.serve(sockets=None if sockets is None else list(sockets)))
        for server, sockets in servers.items()
    ]
    try:
        while not any(one.done() for one in serving):
            for part in parts:
                if part.done():
                    part.result()
            await turn()
            await asyncio.wait(serving, timeout=_TURN_S, return_when=asyncio.FIRST_COMPLETED)
        stop()
        await asyncio.gather(*serving)
    finally:
        stop()
        await close()
        await asyncio.wait(serving)
