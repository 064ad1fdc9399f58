"""A notifier among others: it finds them, hears from them, and tells them what changes.

Every notifier keeps a link to every other one it knows of. What changes goes to all links; what was
news goes on to all but where it came from, so that it arrives as long as there is any way. A link
that was down begins with the whole state of both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from varve.notify.cluster.protocol import (
    VERSION,
    Alive,
    BadFrame,
    Frame,
    Hello,
    Member,
    State,
    encode,
    read,
)
from varve.notify.cluster.replication import everything, merge, shared
from varve.notify.driver import Driver
from varve.notify.records import Record

_ALIVE_S = 1.0
# A link on which nothing was heard for so long is down.
_SILENT_S = 5.0
_FIRST_RETRY_S = 0.2
_LONGEST_RETRY_S = 5.0
_CONNECT_S = 3.0
# A peer that reads so slowly is dropped, and begins anew.
_MOST_UNSENT_BYTES = 256 << 20
_STATE_RECORDS = 2_000

_log = logging.getLogger("varve.notify.cluster")


@dataclass(frozen=True)
class ClusterOptions:
    """Names and meanings are Alertmanager's; durations in seconds."""

    listen: str
    advertise: str = ""
    peers: Sequence[str] = ()
    label: str = ""
    """Peers with another label are not talked to."""
    peer_timeout_s: float = 15.0
    settle_timeout_s: float = 60.0
    reconnect_timeout_s: float = 6 * 3600.0


@dataclass(eq=False)
class _Link:
    """A connection to another notifier, after both have said hello."""

    member: Member
    ours: bool
    """We opened it."""
    writer: asyncio.StreamWriter
    heard_s: float = field(default_factory=time.monotonic)
    whole: bool = False
    """Its state has arrived."""

    def send(self, frame: Frame) -> None:
        if self.writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            _log.warning("%s reads too slowly: dropped", self.member.address)
            self.writer.transport.abort()
            return
        self.writer.write(encode(frame))


class Cluster:
    """Use `start`, then `stop`."""

    def __init__(self, options: ClusterOptions, name: str, driver: Driver) -> None:
        """name: of this process, unlike that of any other."""
        self._options = options
        self._driver = driver
        self._name = name
        self._links: dict[str, _Link] = {}
        # Addresses of others, and when one was last known to be there.
        self._known: dict[str, float] = {}
        # By an address that we connected to, the name of who is there.
        self._names: dict[str, str] = {}
        self._own: set[str] = set()
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._began_s = time.monotonic()
        self._settled = False
        self.member = Member(name, options.advertise or options.listen)

    async def start(self) -> None:
        """Listens, and begins to look for others. Raises OSError if the address is taken."""
        host, port = split(self._options.listen)
        self._server = await asyncio.start_server(self._accepted, host or None, port)
        bound = self._server.sockets[0].getsockname()
        if not self._options.advertise:
            shown = _own_address() if bound[0] in {"0.0.0.0", "::"} else bound[0]  # noqa: S104
            self.member = Member(self._name, join(shown, bound[1]))
        self._own = {self.member.address, join(bound[0], bound[1])}
        now_s = time.monotonic()
        self._known = {peer: now_s for peer in self._options.peers if peer not in self._own}
        self._driver.on_change = self._changed
        self._run(self._keep_up())
        _log.info("Listening for peers on", extra={"fields": {"address": self.member.address}})

    async def stop(self) -> None:
        self._driver.on_change = None
        if self._server is not None:
            self._server.close()
        for link in list(self._links.values()):
            link.writer.close()
        for task in self._tasks | set(self._connecting.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._connecting.values(), return_exceptions=True)

    # Turns.

    def wait_ms(self, now_ms: int) -> int | None:  # noqa: ARG002 - of the protocol Turns
        """See turns.Turns: by the order of names among those who are linked."""
        if not self._is_settled():
            return None
        before = sum(name < self._name for name in self._links)
        return round(before * self._options.peer_timeout_s * 1000)

    def _is_settled(self) -> bool:
        """Whether who is there is known: every peer has given its state, or enough time is over."""
        if not self._settled:
            missing = [address for address in self._known if not self._is_linked(address)]
            whole = all(link.whole for link in self._links.values())
            waited_s = time.monotonic() - self._began_s
            if (whole and not missing) or waited_s >= self._options.settle_timeout_s:
                self._settled = True
                fields = {"peers": len(self._links), "missing": ",".join(missing)}
                _log.info("Settled", extra={"fields": fields})
        return self._settled

    def status(self) -> dict[str, Any]:
        """What API v2 says of the cluster: this notifier and those that it is linked to."""
        members = [self.member, *(link.member for link in self._links.values())]
        return {
            "name": self._name,
            "status": "ready" if self._is_settled() else "settling",
            "peers": [
                {"name": member.name, "address": member.address}
                for member in sorted(members, key=lambda member: member.name)
            ],
        }

    def _is_linked(self, address: str) -> bool:
        return self._names.get(address) in self._links or any(
            link.member.address == address for link in self._links.values()
        )

    # Links.

    async def _keep_up(self) -> None:
        """Connects to whoever is known and not linked, and says that this one is alive."""
        retry_s: dict[str, float] = {}
        next_s: dict[str, float] = {}
        alive_s = 0.0
        while True:
            now_s = time.monotonic()
            for address, seen_s in list(self._known.items()):
                if self._is_linked(address) or address in self._connecting:
                    retry_s.pop(address, None)
                    continue
                is_peer = address in self._options.peers
                if not is_peer and now_s - seen_s > self._options.reconnect_timeout_s:
                    del self._known[address]
                    continue
                if now_s < next_s.get(address, 0.0):
                    continue
                wait_s = retry_s.get(address, _FIRST_RETRY_S)
                retry_s[address] = min(wait_s * 1.5, _LONGEST_RETRY_S)
                next_s[address] = now_s + wait_s
                task = asyncio.create_task(self._connect(address))
                self._connecting[address] = task
                task.add_done_callback(partial(self._connected, address))
            if now_s - alive_s >= _ALIVE_S:
                alive_s = now_s
                self._say_alive(now_s)
            await asyncio.sleep(0.1)

    def _connected(self, address: str, _: asyncio.Task[None]) -> None:
        self._connecting.pop(address, None)

    def _say_alive(self, now_s: float) -> None:
        members = [self.member, *(link.member for link in self._links.values())]
        for link in list(self._links.values()):
            if now_s - link.heard_s > _SILENT_S:
                _log.warning("%s is silent: its link is closed", link.member.address)
                link.writer.transport.abort()
            else:
                link.send(Alive(members))

    async def _connect(self, address: str) -> None:
        host, port = split(address)
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            return
        # The link outlives this attempt.
        self._run(self._link(reader, writer, address))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await self._link(reader, writer, "")

    async def _link(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        """Serves a connection until it ends. address: where it was opened to, "" if accepted."""
        link: _Link | None = None
        try:
            link = await self._greet(reader, writer, address)
            if link is None:
                return
            self._send_everything(link)
            while True:
                await self._hear(link, await read(reader))
        except (BadFrame, asyncio.IncompleteReadError, OSError, TimeoutError) as err:
            if isinstance(err, BadFrame):
                _log.warning("a peer at %s says what is not understood: %s", address, err)
        finally:
            writer.close()
            if link is not None and self._links.get(link.member.name) is link:
                del self._links[link.member.name]
                _log.info("Peer left", extra={"fields": {"peer": link.member.address}})
                self._driver.wake()

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> _Link | None:
        """Exchanges hellos; None if the connection is not needed."""
        members = [link.member for link in self._links.values()]
        writer.write(encode(Hello(VERSION, self._options.label, self.member, members)))
        async with asyncio.timeout(_CONNECT_S):
            hello = await read(reader)
        if not isinstance(hello, Hello) or hello.version != VERSION:
            raise BadFrame("no hello of this version")
        if hello.member.name == self._name:
            self._own.add(address)
            self._known.pop(address, None)
            return None
        if hello.label != self._options.label:
            raise BadFrame(f"the label {hello.label!r}, and ours is {self._options.label!r}")
        if address:
            self._names[address] = hello.member.name
        link = _Link(hello.member, bool(address), writer)
        old = self._links.get(hello.member.name)
        if old is not None and self._keeps(old, link):
            return None
        self._links[hello.member.name] = link
        if old is not None:
            old.writer.close()
        else:
            _log.info("Peer joined", extra={"fields": {"peer": hello.member.address}})
        self._learn([hello.member, *hello.members])
        return link

    def _keeps(self, old: _Link, new: _Link) -> bool:
        """Of two links both sides keep the one that the lesser name opened."""
        if old.ours == new.ours:
            return False
        return old.ours == (self._name < old.member.name)

    def _learn(self, members: Sequence[Member]) -> None:
        now_s = time.monotonic()
        for member in members:
            if member.name != self._name and member.address not in self._own:
                self._known[member.address] = now_s

    # State.

    def _send_everything(self, link: _Link) -> None:
        records = everything(self._driver.notifier)
        for start in range(0, len(records), _STATE_RECORDS):
            link.send(State(records[start : start + _STATE_RECORDS]))
        link.send(State([], last=True))

    async def _hear(self, link: _Link, frame: Frame) -> None:
        link.heard_s = time.monotonic()
        match frame:
            case Alive():
                self._learn(frame.members)
            case State():
                link.whole = link.whole or frame.last
                if frame.records:
                    self._merge(link, frame.records)
            case _:
                raise BadFrame("hello twice")

    def _merge(self, link: _Link, records: list[Record]) -> None:
        notifier = self._driver.notifier
        news = self._driver.merge(lambda now_ms: merge(notifier, records, now_ms))
        if news:
            for other in self._links.values():
                if other is not link:
                    other.send(State(news))

    def _changed(self, records: list[Record]) -> None:
        """Something changed here."""
        if self._links and (found := list(shared(self._driver.notifier, records))):
            for link in self._links.values():
                link.send(State(found))

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def split(address: str) -> tuple[str, int]:
    """Raises ValueError if it is no HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} should be HOST:PORT")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own_address() -> str:
    """The address from which this machine reaches others; nothing is sent to find it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
