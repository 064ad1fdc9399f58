"""Clients of Pushgateway and Influx, and whoever sends JSON, push to the gateway."""

from __future__ import annotations

import contextlib
import gzip

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    delete_from_gateway,
    push_to_gateway,
    pushadd_to_gateway,
)

from tests.unit.gateway.served import STALE, ServedGateway
from varve.gateway.push import PushRequest
from varve.gateway.push_protocols.groups import Groups
from varve.gateway.push_protocols.influx import Influx
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.gateway.push_protocols.pushgateway import Pushgateway
from varve.gateway.refusals import Malformed

HEAD = PushRequest("POST", "/api/v2/write")
NOW_MS = 1_795_740_000_000


class Clock:
    def __init__(self):
        self.at_ms = NOW_MS

    def __call__(self):
        self.at_ms += 1_000
        return self.at_ms


@pytest.fixture
def served():
    groups = Groups()
    clock = Clock()
    protocols = [JsonSamples(), Influx(clock), Pushgateway(groups, clock)]
    with ServedGateway(protocols) as served:
        served.groups = groups
        yield served


def registry_of(**values):
    registry = CollectorRegistry()
    for name, value in values.items():
        Gauge(name, f"Help of {name}.", ["of"], registry=registry).labels("x").set(value)
    return registry


def test_the_clients_pushes_are_shown_until_they_are_deleted(served, tmp_path):
    address = f"127.0.0.1:{served.port}"
    key = {"instance": "a/b"}
    group = (("instance", "a/b"), ("job", "nightly"))
    labels = (*group, ("of", "x"))
    latest = served.lane.latest

    push_to_gateway(address, "nightly", registry_of(a=1, b=2), grouping_key=key)
    pushadd_to_gateway(address, "nightly", registry_of(b=3, c=4), grouping_key=key)
    assert [latest(name) for name in "abc"] == [{labels: 1.0}, {labels: 3.0}, {labels: 4.0}]
    assert latest("push_time_seconds") == {group: (NOW_MS + 2_000) / 1000}

    push_to_gateway(address, "nightly", registry_of(a=5), grouping_key=key)
    assert [latest(name) for name in "abc"] == [{labels: 5.0}, {labels: STALE}, {labels: STALE}]

    file = tmp_path / "groups.json"
    served.call(lambda: served.groups.save(file))
    again = Groups()
    again.load(file)
    assert bytes(again.shown(1).message().content) == bytes(
        served.call(lambda: served.groups.shown(1).message().content)
    )

    delete_from_gateway(address, "nightly", grouping_key=key)
    assert latest("a") == {labels: STALE}
    assert latest("push_time_seconds") == {group: STALE}
    assert len(served.groups) == 0


@pytest.mark.parametrize("body", ["a 1 500\n", "a{\n", "a 1\na 1\n", "push_time_seconds 1\n"])
def test_a_push_that_cannot_be_is_refused_and_its_time_shown(served, body):
    url = f"{served.url}/metrics/job/x"
    assert httpx.post(url, content="a 1\n").status_code == 200

    assert httpx.post(url, content=body).status_code == 400

    shown = served.call(lambda: served.groups.shown(NOW_MS))
    assert len(shown) == 3
    assert served.groups._groups[("job", "x"),].failed_s > 0


@pytest.mark.parametrize("path", ["x/instance", "x/job/y", "x/a@base64/%C3%A9"])
def test_a_path_that_is_no_group_is_refused(served, path):
    assert httpx.put(f"{served.url}/metrics/job/{path}", content="a 1\n").status_code == 400


def test_influx_client_writes_points(served):
    point = (
        Point("cpu load").tag("host", "h,1 =x").field("user", 1.5).field("n", 3).field("up", True)
    )
    with InfluxDBClient(served.url, token="t", org="o", enable_gzip=True) as client:
        write = client.write_api(write_options=SYNCHRONOUS)
        write.write("b", record=point.field("text", 'a "b", c').time(NOW_MS * 1_000_000))
        write.write(
            "b",
            record=Point("depth").field("value", 7).time(NOW_MS // 1000, "s"),
            write_precision="s",
        )

    found = served.lane.samples()
    host = ("host", "h,1 =x")
    assert found == {
        (("__name__", "cpu_load_n"), host): [(NOW_MS, 3.0)],
        (("__name__", "cpu_load_up"), host): [(NOW_MS, 1.0)],
        (("__name__", "cpu_load_user"), host): [(NOW_MS, 1.5)],
        (("__name__", "depth"),): [(NOW_MS, 7.0)],
    }


def test_lines_that_are_none_are_told_and_the_rest_is_taken(served):
    body = b"# a comment\n\na,x=1 value=1i 1\nnonsense\nb f=oops,g=2u\n"

    answer = httpx.post(
        f"{served.url}/write?precision=ms",
        content=gzip.compress(body),
        headers={"content-encoding": "gzip"},
    )

    assert answer.status_code == 400
    assert "nonsense" in answer.json()["error"]
    assert "oops" in answer.json()["error"]
    assert served.lane.latest("a") == {(("x", "1"),): 1.0}
    assert served.lane.latest("b_g") == {(): 2.0}


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@given(st.dictionaries(words, words, max_size=1), st.floats(allow_nan=False, allow_infinity=False))
def test_what_the_client_writes_as_a_line_is_read(tags, value):
    tags = {name.strip(): text.strip() for name, text in tags.items()}
    tags = {
        n: t for n, t in tags.items() if n and t and not n.endswith("\\") and not t.endswith("\\")
    }
    point = Point("m").field("value", value).time(5)
    for name, text in tags.items():
        point = point.tag(name, text)

    body = Influx(lambda: 0).begin(HEAD)
    message = body.message(point.to_line_protocol().encode(), 1 << 20)

    assert not message.refusals.count
    for text in tags.values():
        assert text.encode() in bytes(message.content)


@given(st.binary(max_size=60))
def test_any_bytes_are_lines_or_refused(body):
    with contextlib.suppress(Malformed):
        Influx(lambda: 0).begin(HEAD).message(body, 1 << 20)


def test_json_is_taken_as_on_the_topic_and_bad_objects_are_told(served):
    objects = (
        b'{"metric":"a","value":1.5,"timestamp":1795740000,"tags":{"x":"1"},"type":"gauge"}\n'
        b'{"metric":"b","value":null,"timestamp":1795740000}\n{"metric":"c","value":1}\n'
    )

    answer = httpx.post(
        f"{served.url}/api/v1/push",
        content=objects,
        headers={"content-type": "application/x-ndjson"},
    )

    assert answer.status_code == 400
    assert "timestamp" in answer.text
    assert served.lane.latest("a") == {(("x", "1"),): 1.5}
    assert served.lane.latest("b") == {(): STALE}
    assert served.lane.kinds["a"] == "gauge"
