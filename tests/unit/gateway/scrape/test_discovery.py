"""Files, HTTP endpoints and DNS say which targets there are; what is broken changes nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import json

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.unit.gateway.scrape.answering_server import AnsweringServer
from varve.gateway.scrape.discovery import DnsDiscovery, FileDiscovery, HttpDiscovery
from varve.gateway.scrape.discovery_config import DnsSdConfig, FileSdConfig, HttpSdConfig

WAIT_S = 30


class Published:
    """What a discovery that runs has published last."""

    def __init__(self, discovery):
        self.groups = None
        self.times = 0
        self._discovery = discovery
        self._changed = asyncio.Event()

    async def __aenter__(self):
        self._task = asyncio.create_task(self._discovery.run(self._publish))
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._discovery.close()

    def _publish(self, groups):
        self.groups, self.times = groups, self.times + 1
        self._changed.set()

    def targets(self):
        return [group.labels | target for group in self.groups or () for target in group.targets]

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Endpoint(AnsweringServer):
    """Says groups of targets, or what it is told to say instead."""

    def __init__(self):
        super().__init__()
        self.groups = [{"targets": ["a:1", "b:2"], "labels": {"env": "x", "n": 1, "is": True}}]
        self.instead = None
        self.asked = []
        self.url = f"http://{self.address}/targets?q=1"

    def release(self):
        """Nobody waits."""

    def answer(self, request):
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        if self.instead is None:
            self.say(request, 200, self.groups)
            return
        status, kind, body = self.instead
        request.send_response(status)
        request.send_header("content-type", kind)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def http(url, networks=(), **config):
    given = {"url": url, "refresh_interval": "20ms"} | config
    return HttpDiscovery(HttpSdConfig.model_validate(given), networks)


def test_an_endpoint_is_asked_again_and_again():
    async def story(server):
        async with Published(http(server.url, authorization={"credentials": "s"})) as found:
            await found.until(lambda: found.groups)
            assert found.targets() == [
                {
                    "__address__": address,
                    "env": "x",
                    "n": "1",
                    "is": "true",
                    "__meta_url": server.url,
                }
                for address in ("a:1", "b:2")
            ]
            server.groups = [{"targets": ["c:3"]}]
            await found.until(lambda: [t["__address__"] for t in found.targets()] == ["c:3"])
        assert server.asked[0]["authorization"] == "Bearer s"
        assert server.asked[0]["x-prometheus-refresh-interval-seconds"] == "0.02"

    with Endpoint() as server:
        asyncio.run(story(server))


JSON = "application/json"


@pytest.mark.parametrize(
    "instead",
    [
        (500, JSON, b"[]"),
        (200, "text/html", b"[]"),
        (200, JSON, b"{"),
        (200, JSON, b'{"targets": []}'),
        (200, JSON, b'[{"targets": [1]}]'),
        (200, JSON, b'[{"targets": ["a"], "labels": {"x": null}}]'),
        (200, JSON, b'[{"target": ["a"]}]'),
        (302, JSON, b""),
    ],
)
def test_an_answer_that_is_none_leaves_the_targets_as_they_were(instead):
    async def story(server):
        async with Published(http(server.url)) as found:
            await found.until(lambda: found.groups)
            server.instead = instead
            asked = len(server.asked)
            async with asyncio.timeout(WAIT_S):
                while len(server.asked) < asked + 3:  # noqa: ASYNC110 - of a thread
                    await asyncio.sleep(0.01)
            published = found.times
            server.instead = None
            await found.until(lambda: found.times > published)
            assert len(found.targets()) == 2

    with Endpoint() as server:
        asyncio.run(story(server))


def test_an_endpoint_outside_of_the_networks_is_not_connected_to(caplog):
    async def story(server):
        async with Published(http(server.url, [ipaddress.ip_network("10.0.0.0/8")])) as found:
            async with asyncio.timeout(WAIT_S):
                while "none of scrape.networks" not in caplog.text:  # noqa: ASYNC110 - of a log
                    await asyncio.sleep(0.01)
            assert found.groups is None

    with Endpoint() as server:
        asyncio.run(story(server))
        assert not server.asked


def test_files_are_read_again_and_a_broken_one_counts_as_it_was(tmp_path):
    config = FileSdConfig.model_validate({"files": ["*.json", "one.yml"]})
    discovery = FileDiscovery(config, tmp_path)

    def addresses():
        return [t["__address__"] for group in discovery.look() for t in group.targets]

    (tmp_path / "a.json").write_text(json.dumps([{"targets": ["a:1"]}]))
    (tmp_path / "one.yml").write_text("- targets: [b:1]\n  labels: {env: t}\n")
    assert addresses() == ["a:1", "b:1"]
    [group] = [g for g in discovery.look() if g.labels.get("env") == "t"]
    assert group.labels["__meta_filepath"] == str(tmp_path / "one.yml")
    (tmp_path / "a.json").write_text("[{broken")
    (tmp_path / "b.json").write_text(json.dumps([{"targets": ["c:1"]}]))
    assert addresses() == ["a:1", "c:1", "b:1"]
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "one.yml").unlink()
    assert addresses() == ["c:1"]


ZONE = {
    ("web.test.", "A"): ["10.0.0.1", "10.0.0.2"],
    ("web.test.", "AAAA"): ["fd00::1"],
    ("_http._tcp.test.", "SRV"): ["0 0 8080 one.test.", "0 0 9090 two.test."],
    ("mail.test.", "MX"): ["10 mx.test."],
    ("zone.test.", "NS"): ["ns1.test."],
}


class NameServer(asyncio.DatagramProtocol):
    """A server of the zone, on a free port of loopback."""

    fails = False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        asked = dns.message.from_wire(data)
        answer = dns.message.make_response(asked)
        [question] = asked.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        if self.fails:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in ZONE:
            answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, ZONE[name, kind]))
        elif not any(known == name for known, _ in ZONE):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)


async def resolved(names, *, fails_later=False, **config):
    """What names are, at first and after the next look."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    resolver.cache = None
    given = DnsSdConfig.model_validate({"names": names, "refresh_interval": "20ms"} | config)
    try:
        async with Published(DnsDiscovery(given, resolver)) as found:
            await found.until(lambda: found.times)
            first = found.targets()
            server.fails = fails_later
            times = found.times
            await found.until(lambda: found.times >= times + 2)
            return first, found.targets()
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("name", "config", "labels"),
    [
        ("web.test", {"type": "A", "port": 80}, [{}, {}]),
        ("web.test", {"type": "AAAA", "port": 80}, [{}]),
        (
            "_http._tcp.test",
            {},
            [
                {
                    "__meta_dns_srv_record_target": f"{host}.test.",
                    "__meta_dns_srv_record_port": port,
                }
                for host, port in (("one", "8080"), ("two", "9090"))
            ],
        ),
        ("mail.test", {"type": "MX", "port": 25}, [{"__meta_dns_mx_record_target": "mx.test."}]),
        ("zone.test", {"type": "NS", "port": 53}, [{"__meta_dns_ns_record_target": "ns1.test."}]),
    ],
)
def test_records_of_names_are_targets(name, config, labels):
    found, again = asyncio.run(resolved([name], **config))

    addresses = {
        "A": ["10.0.0.1:80", "10.0.0.2:80"], "AAAA": ["[fd00::1]:80"], "MX": ["mx.test:25"],
        "NS": ["ns1.test:53"], "SRV": ["one.test:8080", "two.test:9090"],
    }[config.get("type", "SRV")]  # fmt: skip
    assert sorted(found, key=lambda t: t["__address__"]) == [
        {"__address__": address, "__meta_dns_name": name} | more
        for address, more in zip(addresses, labels, strict=True)
    ]
    assert len(again) == len(found)


def test_a_name_that_does_not_exist_has_no_targets_and_one_that_is_not_answered_keeps_them():
    names = ["none.test", "web.test"]

    first, later = asyncio.run(resolved(names, type="A", port=1, fails_later=True))

    assert [t["__meta_dns_name"] for t in first] == ["web.test"] * 2
    assert later == first
