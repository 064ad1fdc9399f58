import os
import socket

import pytest

from varve.collectors.pages import fetch
from varve.model.errors import NeedsOperator
from varve.services.metrics_page import serving
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
