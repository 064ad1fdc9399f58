"""Every protocol that is pushed, into one gateway process: all of it is in the spool, and the
accounting holds. Without Kafka.
"""

from __future__ import annotations

import socket
import time

import httpx
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.integration.gateway.gateway_process import GatewayProcess
from tests.integration.gateway.spooled import spooled_samples
from tests.remote_writing import HEADERS_V1, snappy, write_request
from varve.local.broker import free_port

DEADLINE_S = 60
OTLP = {
    "resourceMetrics": [
        {
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "over.http",
                            "gauge": {"dataPoints": [{"timeUnixNano": "%d", "asDouble": 2.5}]},
                        }
                    ]
                }
            ]
        }
    ]
}


def until(condition, gateway):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, gateway.log[-3000:]
        time.sleep(0.05)


def by_name(samples):
    found = {}
    for labels, _, value in samples:
        found.setdefault(dict(labels)["__name__"], []).append(value)
    return found


def received(gateway, protocol):
    """Samples of a protocol so far."""
    line = f'varve_gateway_received_samples_total{{protocol="{protocol}"}} '
    page = httpx.get(f"{gateway.url}/metrics").text
    return next((float(n.split()[1]) for n in page.splitlines() if n.startswith(line)), 0.0)


def is_at_rest(gateway):
    """Whether every sample that was received is spooled or refused."""
    metrics = gateway.metrics()
    fates = ("acknowledged", "spooled", "refused")
    counts = (metrics.get(f"varve_gateway_{fate}_samples_total", 0.0) for fate in fates)
    return metrics["varve_gateway_received_samples_total"] == sum(counts)


def export_by_grpc(port):
    exporter = OTLPMetricExporter(f"127.0.0.1:{port}", insecure=True)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
    provider = MeterProvider([reader], resource=Resource({}))
    provider.get_meter("m").create_counter("over.grpc").add(4)
    assert provider.force_flush()
    provider.shutdown()


def test_all_protocols_go_one_road_and_groups_outlive_a_kill(tmp_path):
    grpc_port, statsd_port = free_port(), free_port()
    gateway = GatewayProcess(
        tmp_path,
        "127.0.0.1:9",
        otlp_grpc_port=str(grpc_port),
        statsd_port=str(statsd_port),
        statsd_flush_s="0.5",
        pushed_every_s="0.5",
    )
    gateway.know_partitions(raw_metrics=4)
    gateway.start()
    now_ms = time.time_ns() // 1_000_000
    otlp = repr(OTLP).replace("'", '"') % (now_ms * 1_000_000)
    json_headers = {"content-type": "application/json"}
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        remote_write = snappy(write_request([({"__name__": "over_write"}, [(now_ms, 1.0)])]))
        answers = [
            client.post("/api/v1/write", content=remote_write, headers=HEADERS_V1),
            client.post("/v1/metrics", content=otlp, headers=json_headers),
            client.post("/write", content="over,a=b line=3 \n"),
            client.post(
                "/api/v1/push",
                json={"metric": "over_json", "value": 5, "timestamp": now_ms},
            ),
            client.put("/metrics/job/batch", content="over_push 6\n"),
        ]
        assert [answer.status_code for answer in answers] == [204, 200, 204, 204, 200]
    export_by_grpc(grpc_port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"over.statsd:7|c\nnonsense", ("127.0.0.1", statsd_port))
    until(lambda: received(gateway, "statsd") and is_at_rest(gateway), gateway)
    assert "varve_statsd_rejected_lines_total 1.0" in httpx.get(f"{gateway.url}/metrics").text
    saved = tmp_path / "gateway-groups.json"
    until(saved.exists, gateway)

    gateway.kill()
    killed_ms = time.time_ns() // 1_000_000
    gateway.start()
    until(lambda: received(gateway, "pushgateway") and is_at_rest(gateway), gateway)
    assert gateway.stop() == 0

    samples = spooled_samples(tmp_path)
    found = by_name(samples)
    assert found["over_write"] == [1.0]
    assert found["over_http"] == [2.5]
    assert found["over_line"] == [3.0]
    assert found["over_grpc_total"][-1] == 4.0
    assert found["over_json"] == [5.0]
    assert set(found["over_push"]) == {6.0}
    shown_ms = [ts for labels, ts, _ in samples if dict(labels)["__name__"] == "over_push"]
    assert min(shown_ms) < killed_ms < max(shown_ms)  # shown again by the process after the kill
    assert set(found["over_statsd"]) == {7.0}
