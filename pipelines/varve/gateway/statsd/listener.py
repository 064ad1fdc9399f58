"""Where StatsD's lines come in: UDP, TCP, and a Unix socket of datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from varve.model.errors import NeedsOperator

Take = Callable[[bytes], None]
"""Is given whole lines: a packet, or what has come of a connection."""

# Room for packets that come while the loop is busy, as far as net.core.rmem_max allows it.
_RECEIVE_BYTES = 8 * 2**20
_LONGEST_LINE = 64 * 1024
_PACKETS_AT_ONCE = 512


class Listener:
    """Listens on one port by UDP and TCP, and on a socket if one is named. For one event loop."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._datagrams: list[socket.socket] = []
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self.connections = 0

    async def open(self, host: str, port: int, path: str = "") -> None:
        """port: 0 for none. path: of the Unix socket, "" for none. Raises NeedsOperator if one of
        them is taken.
        """
        try:
            if port:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                udp = socket.socket(family, socket.SOCK_DGRAM)
                udp.bind((host, port))
                self._listen(udp)
                self._server = await asyncio.start_server(self._read, host, port)
            if path:
                self._listen(_unix_socket(Path(path)))
                self._path = Path(path)
        except OSError as err:
            await self.close()
            where = f"{host}:{port}, gateway.statsd_port" if port else "gateway.statsd_socket"
            raise NeedsOperator(f"cannot listen for StatsD ({where} {path}): {err}") from err

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for found in self._datagrams:
            loop.remove_reader(found.fileno())
            found.close()
        self._datagrams.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def dropped(self) -> int:
        """Packets of UDP that the kernel has dropped, because they came faster than they were read.
        Only Linux says so; 0 elsewhere.
        """
        inodes = {os.fstat(found.fileno()).st_ino for found in self._datagrams}
        return sum(
            drops
            for table in ("/proc/net/udp", "/proc/net/udp6")
            for inode, drops in _drops(Path(table))
            if inode in inodes
        )

    def _listen(self, found: socket.socket) -> None:
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._datagrams.append(found)
        asyncio.get_running_loop().add_reader(found.fileno(), self._receive, found)

    def _receive(self, found: socket.socket) -> None:
        """Reads packets that have come, some at a time: the loop has others to serve."""
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = found.recv(_LONGEST_LINE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as err:
                if err.errno == errno.EBADF:
                    return
                continue
            self._take(packet)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        rest = b""
        try:
            while chunk := await reader.read(_LONGEST_LINE):
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                if newline:
                    self._take(whole)
                if len(rest) > _LONGEST_LINE:
                    break
            if rest and len(rest) <= _LONGEST_LINE:
                self._take(rest)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def _unix_socket(path: Path) -> socket.socket:
    """A socket at a path that is free, or that a process before this one has left there."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is something that is no socket", str(path))
        path.unlink()
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(str(path))
    return found


def _drops(table: Path) -> list[tuple[int, int]]:
    """Inode and drops of each socket."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    return [(int(words[9]), int(words[-1])) for words in map(str.split, lines)]
