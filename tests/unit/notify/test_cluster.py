"""Links between notifiers: found, cut without a word, healed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from tests.unit.notify.stage import CONFIG
from varve.model.clock import SystemClock
from varve.notify.alerts import Sending
from varve.notify.cluster import cluster as clusters
from varve.notify.cluster.cluster import Cluster, ClusterOptions
from varve.notify.cluster.protocol import Hello, Member, encode
from varve.notify.config import read_config
from varve.notify.driver import Driver
from varve.notify.journal import Journal
from varve.notify.journal_writer import JournalWriter
from varve.notify.matchers import Matcher
from varve.notify.notifier import Notifier
from varve.notify.records import Silence
from varve.notify.silences import stored_matchers

PATIENCE_S = 60


class Node:
    """A notifier of a cluster that tells nobody."""

    def __init__(self, folder, name: str) -> None:
        self.name = name
        journal = Journal(folder / name)
        self.notifier = Notifier(read_config(CONFIG.replace("30s", "1h")))
        self.clock = SystemClock()
        self.notifier.start(self.clock.now_ms(), journal.read())
        self.writer = JournalWriter(journal)
        self.writer.start()
        self.driver = Driver(self.notifier, self.writer, self.clock, None, None)

    async def join(self, *peers: str, label: str = "") -> None:
        options = ClusterOptions(
            "127.0.0.1:0", peers=peers, label=label, settle_timeout_s=PATIENCE_S
        )
        self.cluster = Cluster(options, self.name, self.driver)
        await self.cluster.start()

    async def silence(self, value: str) -> None:
        now_ms = self.clock.now_ms()
        matchers = stored_matchers([Matcher("instance", "=", value)])
        wanted = Silence("", matchers, now_ms, now_ms + 3_600_000, 0, "", "")
        await self.driver.change(lambda at_ms: self.notifier.put_silence(wanted, at_ms))

    async def send(self, instance: str) -> None:
        now_ms = self.clock.now_ms()
        sending = Sending({"alertname": "A", "instance": instance}, {}, now_ms, now_ms + 600_000)
        await self.driver.change(lambda at_ms: self.notifier.put_alerts([sending], at_ms))

    @property
    def peers(self) -> int:
        return len(self.cluster.status()["peers"]) - 1

    @property
    def known(self) -> tuple[int, int]:
        return len(self.notifier.silences), len(self.notifier.entries)

    async def leave(self) -> None:
        await self.cluster.stop()
        await asyncio.to_thread(self.writer.stop, 10)


class Wire:
    """Carries bytes to an address, until it is cut: then it is silent, and closes nothing."""

    def __init__(self, target: str) -> None:
        self._target = clusters.split(target)
        self.open = asyncio.Event()
        self.open.set()
        self._tasks: set[asyncio.Task] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return clusters.join(*self._server.sockets[0].getsockname()[:2])

    async def _accepted(self, reader, writer) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)

    async def _carry(self, source, sink) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                await self.open.wait()
                sink.write(data)
        sink.close()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(clusters, "_ALIVE_S", 0.1)
    monkeypatch.setattr(clusters, "_SILENT_S", 1.0)


def test_what_both_sides_of_a_cut_have_made_is_everywhere_once_it_is_healed(tmp_path):
    async def story() -> None:
        a, b = Node(tmp_path, "a"), Node(tmp_path, "b")
        await b.join()
        wire = Wire(b.cluster.member.address)
        # b is known to a by the wire only, and does not know how to reach a.
        await a.join(await wire.start())
        a.cluster.member = Member("a", "127.0.0.1:1")
        await true(lambda: a.peers == b.peers == 1)
        await true(lambda: (a.cluster.wait_ms(0), b.cluster.wait_ms(0)) == (0, 15_000))
        await a.silence("x")
        await b.send("x")
        await true(lambda: a.known == b.known == (1, 1))

        a.cluster._known = dict.fromkeys(a.cluster._options.peers, 0.0)
        wire.open.clear()
        await true(lambda: a.peers == b.peers == 0)
        # Each of them tells now: rather twice than not.
        assert (a.cluster.wait_ms(0), b.cluster.wait_ms(0)) == (0, 0)
        await a.silence("y")
        await b.silence("z")
        await b.send("y")
        assert (a.known, b.known) == ((2, 1), (2, 2))

        wire.open.set()
        await true(lambda: a.known == b.known == (3, 2))

        await a.leave()
        await b.leave()
        await wire.stop()

    asyncio.run(story())


def test_news_comes_by_way_of_others(tmp_path):
    async def story() -> None:
        nodes = [Node(tmp_path, name) for name in "abc"]
        await nodes[0].join()
        for node in nodes[1:]:
            await node.join(nodes[0].cluster.member.address)
        await true(lambda: all(node.peers == 2 for node in nodes))
        # b and c are cut from each other, and not from a.
        for one, other in ((nodes[1], "c"), (nodes[2], "b")):
            link = one.cluster._links.pop(other)
            one.cluster._known.pop(link.member.address, None)
            one.cluster._own.add(link.member.address)
            link.writer.transport.abort()

        await nodes[1].silence("x")

        await true(lambda: all(node.known == (1, 0) for node in nodes))
        for node in nodes:
            await node.leave()

    asyncio.run(story())


def test_a_cluster_with_another_label_and_what_speaks_another_language_are_left_alone(tmp_path):
    async def story() -> None:
        a, b = Node(tmp_path, "a"), Node(tmp_path, "b")
        await a.join(label="one")
        await b.join(a.cluster.member.address, label="two")
        host, port = clusters.split(a.cluster.member.address)
        for said in (b"GET / HTTP/1.1\r\n\r\n", encode(Hello(9, "one", Member("x", "y:1"), []))):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(said)
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()  # until it is closed
            writer.close()

        assert (a.peers, b.peers) == (0, 0)
        for node in (a, b):
            await node.leave()

    asyncio.run(story())


def test_a_list_of_peers_may_have_oneself(tmp_path):
    async def story() -> None:
        a, b = Node(tmp_path, "a"), Node(tmp_path, "b")
        await a.join()
        own = a.cluster.member.address
        await a.cluster.stop()
        await a.join(own)  # the port has changed: this one is nobody's
        await b.join(a.cluster.member.address)
        b.cluster._known["localhost:" + b.cluster.member.address.rpartition(":")[2]] = 0.0
        b.cluster._options = ClusterOptions("x", peers=tuple(b.cluster._known))
        await true(lambda: b.cluster.wait_ms(0) is not None)
        assert b.peers == 1

        for node in (a, b):
            await node.leave()

    asyncio.run(story())
