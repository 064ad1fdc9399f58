import time

import pytest

from varve.collectors.host import HostCollector, Reading, _gauge

TEMPERATURE = _gauge("temperature_celsius", "celsius", "How warm.")


def _source(*rooms):
    return lambda: iter([Reading(TEMPERATURE, {"room": r}, 20.0) for r in rooms])


def _values(samples, metric):
    return {dict(s.series.tags).get("room"): s.value for s in samples if s.series.metric == metric}


def test_this_machine_is_measured_under_node_exporters_names():
    samples = HostCollector("here").scrape(1_000)

    series = {s.series for s in samples}
    assert len(series) == len(samples)
    assert {s.ts_ms for s in samples} == {1_000}
    assert {(dict(s.tags)["job"], dict(s.tags)["instance"]) for s in series} == {("node", "here")}
    assert all(s.help and s.type != "unknown" for s in series)
    kinds = {s.metric: (s.type, s.unit) for s in series}
    assert kinds["node_cpu_seconds_total"] == ("counter", "seconds")
    assert kinds["node_memory_MemAvailable_bytes"] == ("gauge", "bytes")
    assert kinds["node_network_receive_bytes_total"] == ("counter", "bytes")
    assert kinds["up"] == ("gauge", "")
    assert all(s.type == "counter" for s in series if s.metric.endswith("_total"))
    assert all(s.value == 1.0 for s in samples if s.series.metric.endswith("collector_success"))
    clock = next(s.value for s in samples if s.series.metric == "node_time_seconds")
    assert clock == pytest.approx(time.time(), abs=5)


def test_cpu_time_grows():
    def idle(samples):
        return sum(
            s.value
            for s in samples
            if s.series.metric == "node_cpu_seconds_total" and dict(s.series.tags)["mode"] == "idle"
        )

    collector = HostCollector("here")

    assert 0 < idle(collector.scrape(1)) <= idle(collector.scrape(2))


def test_a_series_that_is_gone_is_marked_once():
    sources = {"t": _source("hall", "loft")}
    collector = HostCollector("here", sources)
    collector.scrape(1)
    sources["t"] = _source("hall")

    assert _values(collector.scrape(2), "temperature_celsius") == {"hall": 20.0, "loft": None}
    assert _values(collector.scrape(3), "temperature_celsius") == {"hall": 20.0}


def test_a_source_that_fails_says_so_and_its_series_end():
    def broken():
        yield Reading(TEMPERATURE, {"room": "hall"}, 20.0)
        raise OSError("sensor unplugged")

    sources = {"t": _source("hall")}
    collector = HostCollector("here", sources)
    collector.scrape(1)
    sources["t"] = broken
    samples = collector.scrape(2)

    assert _values(samples, "temperature_celsius") == {"hall": None}
    assert _values(samples, "node_scrape_collector_success") == {None: 0.0}


def test_the_end_marks_every_living_series_and_only_once():
    collector = HostCollector("here", {"t": _source("hall")})
    living = {s.series for s in collector.scrape(1)}

    ended = collector.end(5)

    assert {s.series for s in ended} == living
    assert {(s.ts_ms, s.value) for s in ended} == {(5, None)}
    assert collector.end(6) == []
