import os
import socket

import pytest

from varve.collectors.pages import fetch
from varve.model.errors import NeedsOperator
from varve.services.instruments import _ports_after
from varve.services.metrics_page import serving
from varve.settings import Settings
from varve.telemetry.registry import Telemetry


def test_a_page_is_served_until_the_block_ends_whatever_proxy_there_is(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    telemetry = Telemetry()
    with serving(telemetry, "127.0.0.1", 0, "telemetry.port") as url:
        text, kind = fetch(url, 5)

        assert kind.startswith("application/openmetrics-text")
        assert "varve_build_info{version=" in text

    with pytest.raises(OSError, match="refused"):
        fetch(url, 5)


def test_a_taken_port_is_named_with_its_holder_and_setting():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(NeedsOperator) as caught,
            serving(Telemetry(), "127.0.0.1", port, "telemetry.port"),
        ):
            pass

    assert f"port {port} is taken by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "VARVE_TELEMETRY__PORT" in str(caught.value)


def test_a_job_beside_others_takes_the_next_free_port_and_says_so(caplog):
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        ports = [server.getsockname()[1] for server in (first, second)]
        with serving(Telemetry(), "127.0.0.1", ports[0], "telemetry.port", [ports[1], 0]) as url:
            text, _ = fetch(url, 5)

            assert "varve_build_info" in text
            assert int(url.split(":")[2].split("/")[0]) not in ports
    assert f"port {ports[0]} (telemetry.port) is taken by" in caplog.text


def test_an_address_that_is_not_this_machines_is_refused_whatever_other_ports_there_are():
    with (
        pytest.raises(NeedsOperator, match="correct telemetry.host"),
        serving(Telemetry(), "192.0.2.77", 9_691, "telemetry.port", [9_692, 0]),
    ):
        pass


def test_jobs_look_at_ten_ports_but_for_those_of_others_and_then_at_any():
    settings = Settings()

    ports = _ports_after(settings)

    assert ports == [*range(9_693, 9_701), 0]
    last = Settings(telemetry={"port": 65_534, "up_port": 1})
    assert _ports_after(last) == [65_535, 0]
