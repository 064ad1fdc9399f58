import math
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open

from varve.collectors.pages import MAX_SERIES, PageTarget, fetch, parse

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"

label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=True)


def _same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))


@given(st.dictionaries(label_values, numbers, max_size=5), st.floats(0, 1e15), st.floats(0, 90))
def test_a_page_gives_back_what_was_measured_in_either_format(gauges, count, seconds):
    registry = CollectorRegistry()
    gauge = Gauge(
        "heat_celsius", "How\nwarm \\ it is.", ["room"], unit="celsius", registry=registry
    )
    for room, value in gauges.items():
        gauge.labels(room).set(value)
    Counter("doors_total", "Doors.", registry=registry).inc(count)
    Histogram("wait_seconds", "Waits.", buckets=(1, 10), registry=registry).observe(seconds)

    for text, kind in ((generate_latest(registry), TEXT), (generate_open(registry), OPEN)):
        readings = [(r.family, dict(r.labels), r.value) for r in parse(text.decode(), kind)]
        found = {labels["room"]: v for f, labels, v in readings if f.metric == "heat_celsius"}
        assert found.keys() == gauges.keys()
        assert all(_same(found[room], gauges[room]) for room in gauges)
        families = {f.metric: f for f, _, _ in readings}
        values = {f.metric: v for f, labels, v in readings if not labels}
        assert values["doors_total"] == count
        assert families["doors_total"].type == "counter"
        assert (values["wait_seconds_count"], values["wait_seconds_sum"]) == (1, seconds)
        buckets = {
            labels["le"]: v for f, labels, v in readings if f.metric == "wait_seconds_bucket"
        }
        assert buckets == {"1.0": seconds <= 1, "10.0": seconds <= 10, "+Inf": 1}
        assert families["wait_seconds_bucket"].type == "histogram"
        assert not any(name.endswith("_created") for name in families)


@given(st.text(max_size=60), st.sampled_from([TEXT, OPEN]))
def test_any_page_gives_samples_or_a_reason(text, kind):
    target = PageTarget("varve-x", "here", lambda: (text, kind))

    up = next(s.value for s in target.scrape(1) if s.series.metric == "up")

    assert up == float(not target.error)


def _of(samples):
    return {s.series.metric: (dict(s.series.tags), s.value) for s in samples}


def test_a_target_that_fails_is_down_and_its_series_end():
    pages = iter([("a_total 1\n", TEXT), ConnectionRefusedError("refused"), ("a_total 2\n", TEXT)])

    def fetch():
        page = next(pages)
        if isinstance(page, OSError):
            raise page
        return page

    target = PageTarget("varve-x", "here", fetch)
    labels = {"job": "varve-x", "instance": "here"}

    first = _of(target.scrape(1))
    assert (first["up"], first["a_total"]) == ((labels, 1.0), (labels, 1.0))
    assert first["scrape_samples_scraped"][1] == 1.0
    second = _of(target.scrape(2))
    assert (second["up"], second["a_total"]) == ((labels, 0.0), (labels, None))
    assert target.error == "refused"
    third = _of(target.scrape(3))
    assert (third["up"][1], third["a_total"][1], target.error) == (1.0, 2.0, "")
    assert {value for _, value in _of(target.end(4)).values()} == {None}


@pytest.mark.parametrize(("extra", "up"), [(0, 1.0), (1, 0.0)])
def test_a_page_may_not_become_a_storm(extra, up):
    page = "".join(f'a{{n="{n}"}} 1\n' for n in range(MAX_SERIES + extra))
    target = PageTarget("varve-x", "here", lambda: (page, TEXT))

    samples = target.scrape(1)

    assert _of(samples)["up"][1] == up
    assert len(samples) <= MAX_SERIES + 3


def test_a_page_that_is_not_http_is_a_reason_too():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ValueError, match="no answer of HTTP"):
            fetch(f"http://127.0.0.1:{port}/metrics", 10)
        thread.join()
