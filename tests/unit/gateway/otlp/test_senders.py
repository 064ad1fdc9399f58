"""The OpenTelemetry SDK exports to the gateway over HTTP and gRPC: every sample is as Prometheus
would have it.
"""

from __future__ import annotations

import gzip
import json

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.unit.gateway.served import ServedGateway
from varve.access.credentials import Credentials
from varve.gateway.lane import Overloaded
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.quotas import Quota

IDENTITY = (("instance", "i-1"), ("job", "web/shop"))


def otlp(**config) -> OtlpHttp:
    return OtlpHttp(OtlpConfig(**config), DeltaTotals(lambda: 0.0))


@pytest.fixture(scope="module")
def gateway():
    with ServedGateway(otlp=otlp()) as served:
        yield served


def exporter(gateway, protocol, temporality):
    if protocol == "grpc":
        endpoint = f"127.0.0.1:{gateway.grpc_port}"
        return GrpcExporter(endpoint, insecure=True, preferred_temporality=temporality)
    return HttpExporter(
        f"{gateway.url}/v1/metrics",
        compression=Compression.Gzip,
        preferred_temporality=temporality,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("temporality", list(AggregationTemporality)[1:], ids=lambda t: t.name)
def test_the_sdk_exports_every_kind_of_instrument(gateway, protocol, temporality):
    own = f"{protocol}.{temporality.name.lower()}"
    temporalities = {Counter: temporality, Histogram: temporality}
    reader = PeriodicExportingMetricReader(
        exporter(gateway, protocol, temporalities), export_interval_millis=1e9
    )
    attributes = {
        "service.name": "shop", "service.namespace": "web", "service.instance.id": "i-1",
        "cloud.region": "eu",
    }  # fmt: skip
    provider = MeterProvider([reader], resource=Resource(attributes))
    meter = provider.get_meter("test", "1.0")
    requests = meter.create_counter(f"{own}.requests", "1", "Requests answered.")
    latency = meter.create_histogram(
        f"{own}.latency", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0]
    )
    users = meter.create_up_down_counter(f"{own}.users")
    meter.create_observable_gauge(
        f"{own}.temperature", [lambda _: [Observation(21.5, {"room": "a"})]], "Cel"
    )

    for _ in range(3):
        requests.add(2, {"http.code": 200})
        latency.record(0.05)
        latency.record(3.0)
        users.add(1)
        assert provider.force_flush()
    provider.shutdown()

    name = own.replace(".", "_")
    latest = gateway.lane.latest
    assert latest(f"{name}_requests_total") == {(("http_code", "200"), *IDENTITY): 6.0}
    assert latest(f"{name}_users") == {IDENTITY: 3.0}
    assert latest(f"{name}_temperature_celsius") == {(*IDENTITY, ("room", "a")): 21.5}
    assert latest(f"{name}_latency_seconds_bucket") == {
        (*IDENTITY, ("le", "0.1")): 3.0,
        (*IDENTITY, ("le", "1")): 3.0,
        (*IDENTITY, ("le", "+Inf")): 6.0,
    }
    assert latest(f"{name}_latency_seconds_sum") == {IDENTITY: pytest.approx(9.15)}
    assert latest("target_info") == {(("cloud_region", "eu"), *IDENTITY): 1.0}
    assert gateway.lane.kinds[f"{name}_requests_total"] == "counter"
    assert gateway.lane.kinds[f"{name}_temperature_celsius"] == "gauge"


def export_of(*points, temporality=2) -> dict:
    data = {"dataPoints": list(points), "isMonotonic": True, "aggregationTemporality": temporality}
    metrics = [{"name": "a", "sum": data}]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


ONE = {
    "timeUnixNano": "1795739960000000000",
    "startTimeUnixNano": "1795739950000000000",
    "asInt": 1,
}


def test_a_part_that_cannot_be_taken_is_told_and_the_rest_is_taken(gateway):
    unnamed = ONE | {"attributes": [{"key": "", "value": {"stringValue": "x"}}]}

    answer = httpx.post(f"{gateway.url}/v1/metrics", json=export_of(ONE, unnamed))

    assert answer.status_code == 200
    partial = answer.json()["partialSuccess"]
    assert partial["rejectedDataPoints"] == "1"
    assert "attribute" in partial["errorMessage"]
    assert gateway.lane.latest("a_total") == {(): 1.0}


JSON = {"content-type": "application/json"}
GZIP = JSON | {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"\x0a\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", JSON | {"content-encoding": "br"}, 415),
        (gzip.compress(b"{}", mtime=0)[:-4], GZIP, 400),
        (gzip.compress(bytes(64 << 20), mtime=0), GZIP, 413),
    ],
)
def test_what_is_no_export_is_refused_with_a_reason(gateway, body, headers, status):
    answer = httpx.post(f"{gateway.url}/v1/metrics", content=body, headers=headers)

    assert answer.status_code == status
    assert len(answer.content) > 10


def test_overload_is_503_and_a_quota_429_so_that_senders_come_again():
    body = json.dumps(export_of(ONE, temporality=1)).encode()
    headers = {"content-type": "application/json"}
    quota = Quota(samples=0.15)
    with ServedGateway(otlp=otlp(), per_address=quota) as served:
        served.lane.error = Overloaded("no room")
        overloaded = httpx.post(f"{served.url}/v1/metrics", content=body, headers=headers)
        served.lane.error = None
        taken = httpx.post(f"{served.url}/v1/metrics", content=body, headers=headers)
        over = httpx.post(f"{served.url}/v1/metrics", content=body, headers=headers)

        assert (overloaded.status_code, overloaded.headers["retry-after"]) == (503, "5")
        # What came again is counted once.
        assert taken.status_code == 200, taken.text
        assert served.lane.latest("a_total") == {(): 1.0}
        assert over.status_code == 429
        assert over.json()["code"] == 8


def test_grpc_tells_who_it_does_not_know_and_when_to_come_again():
    credentials = Credentials({"team": "secret"}, {})
    with (
        ServedGateway(otlp=otlp(), credentials=credentials) as served,
        grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel,
    ):
        export = channel.unary_unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            request_serializer=ExportMetricsServiceRequest.SerializeToString,
            response_deserializer=ExportMetricsServiceResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as unknown:
            export(ExportMetricsServiceRequest())
        known = (("authorization", "Bearer secret"),)
        taken = export(ExportMetricsServiceRequest(), metadata=known)

    assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not taken.HasField("partial_success")
