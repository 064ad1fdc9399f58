"""What a scrape connects to and takes: no forbidden address, whatever names and redirects say."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress

import pytest

from tests.unit.gateway.scrape.answering_server import AnsweringServer
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.fetch import ScrapeFailed, TargetClient

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


class Target(AnsweringServer):
    def __init__(self):
        super().__init__()
        self.paths = []
        self.redirect = ""

    def release(self):
        """Nobody waits."""

    def answer(self, request):
        self.paths.append(request.path)
        body, headers = b"m 1\n", {}
        if request.path == "/moved":
            headers = {"location": self.redirect}
        elif request.path == "/bomb":
            body, headers = gzip.compress(bytes(10_000_000)), {"content-encoding": "gzip"}
        elif request.path == "/lie":
            body, headers = b"m 1\n", {"content-encoding": "gzip"}
        request.send_response(302 if request.path == "/moved" else 200)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-type", "text/plain")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def target():
    with Target() as server:
        yield server


def read(url, networks=LOOPBACK, **job):
    async def story():
        config = ScrapeConfig.model_validate({"job_name": "j"} | job)
        client = TargetClient(config, networks)
        try:
            return (await client.read(url, 10_000)).body
        finally:
            await client.close()

    return asyncio.run(story())


def test_a_target_in_the_networks_is_read_also_behind_a_redirect(target):
    target.redirect = f"http://{target.address}/metrics"

    assert read(f"http://{target.address}/metrics") == b"m 1\n"
    assert read(f"http://{target.address}/moved") == b"m 1\n"
    assert target.paths == ["/metrics", "/moved", "/metrics"]


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
@pytest.mark.parametrize("networks", [(), [ipaddress.ip_network("0.0.0.0/0")]], ids=["all", "v4"])
def test_link_local_addresses_are_never_connected_to(target, host, networks):
    target.redirect = f"http://{host}/latest"

    for url in (f"http://{host}/metrics", f"http://{target.address}/moved"):
        with pytest.raises(ScrapeFailed, match=r"never|local|forbidden|none of|not followed"):
            read(url, networks)


def test_what_is_in_none_of_the_networks_is_not_connected_to(target):
    with pytest.raises(ScrapeFailed, match=r"none of scrape\.networks"):
        read(f"http://{target.address}/metrics", [ipaddress.ip_network("10.0.0.0/8")])
    assert not target.paths


def test_a_redirect_leads_out_of_the_networks_no_more_than_a_target(target):
    target.redirect = "http://10.1.2.3:9/metrics"

    with pytest.raises(ScrapeFailed, match=r"none of scrape\.networks|not followed"):
        read(f"http://{target.address}/moved")


def test_redirects_are_not_followed_where_the_job_says_so(target):
    target.redirect = f"http://{target.address}/metrics"

    with pytest.raises(ScrapeFailed, match="302"):
        read(f"http://{target.address}/moved", follow_redirects=False)


@pytest.mark.parametrize(("path", "why"), [("/bomb", "size limit"), ("/lie", "cannot be expanded")])
def test_bodies_are_bounded_once_they_are_expanded(target, path, why):
    with pytest.raises(ScrapeFailed, match=why):
        read(f"http://{target.address}{path}", body_size_limit="1MB")
