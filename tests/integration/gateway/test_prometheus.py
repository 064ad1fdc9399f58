"""A real Prometheus writes to the gateway: everything it has is there, and equal. Without Kafka."""

from __future__ import annotations

import math
import shutil
import subprocess
import time

import httpx
import pytest

from tests.integration.gateway.gateway_process import GatewayProcess
from tests.integration.gateway.spooled import spooled_samples
from varve.local.broker import free_port

NOBODY = "127.0.0.1:9"
CONFIG = """
global:
  scrape_interval: 500ms
  external_labels: {{cluster: here, __replica__: a}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: gateway
    static_configs: [{{targets: ["127.0.0.1:{gateway}"]}}]
remote_write:
  - url: http://127.0.0.1:{gateway}/api/v1/write
    metadata_config: {{send_interval: 1s}}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus on PATH (Debian: prometheus)"
)


def own_samples(client):
    """What Prometheus has itself: labels as it sends them, time, value."""
    answer = client.get("/api/v1/query", params={"query": '{job!=""}[1h]'}).raise_for_status()
    return {
        (tuple(sorted((series["metric"] | {"cluster": "here"}).items())), round(ts * 1000), value)
        for series in answer.json()["data"]["result"]
        for ts, value in series["values"]
    }


def shown(value):
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else value


def test_all_that_a_prometheus_has_is_in_the_spool_and_equal(tmp_path):
    gateway = GatewayProcess(tmp_path, NOBODY)
    gateway.know_partitions(raw_metrics=4)
    gateway.start()
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(port=port, gateway=gateway.port))
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        def has(count):
            try:
                return len(own_samples(client)) > count
            except httpx.HTTPError:
                return False

        deadline = time.monotonic() + 90
        while not has(5_000):
            assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()[-2000:]
            time.sleep(0.1)
        own = own_samples(client)
        while gateway.metrics()["varve_gateway_spooled_samples_total"] < len(own):
            assert time.monotonic() < deadline, gateway.log[-2000:]
            time.sleep(0.1)
    prometheus.terminate()  # sends what it has not sent
    prometheus.wait(60)
    refused = gateway.metrics().get("varve_gateway_refused_samples_total", 0)
    assert gateway.stop() == 0

    found = {
        (labels, ts): shown(value)
        for labels, ts, value in spooled_samples(tmp_path)
        if value is not None
    }
    assert refused == 0
    assert len(own) > 5_000
    for labels, ts, text in own:
        value = found[labels, ts]
        assert value == (text if text in ("NaN", "+Inf", "-Inf") else float(text))
