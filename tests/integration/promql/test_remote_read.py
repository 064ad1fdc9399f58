"""A real Prometheus that has no samples of its own reads ours."""

from __future__ import annotations

import math
from random import Random

import cramjam
import httpx
import pytest

from tests.integration.api_service import served, service_over
from tests.integration.promql.prometheus import missing, prometheus
from tests.tables import WrittenTables
from varve.gateway.protobuf import delimited_field, fields
from varve.model.identity import define

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

BEGIN_MS = 1_700_000_000_000
STEP_MS = 15_000
SAMPLES = 500
WILD = [math.nan, math.inf, -math.inf, 1e300, -1e-300, 0.1, 123456789.0]


@pytest.fixture(scope="module")
def data():
    """A steady counter, a gauge of wild values and times, one that ends and comes back."""
    r = Random(7)
    counter = [(BEGIN_MS + i * STEP_MS, float(i * 3)) for i in range(SAMPLES)]
    wild = [(BEGIN_MS + i * STEP_MS + r.randrange(STEP_MS), r.choice(WILD)) for i in range(SAMPLES)]
    gaps = [(ms, v) for ms, v in counter if ms // 900_000 % 2]
    ended = [(ms, None if i % 40 == 39 else v) for i, (ms, v) in enumerate(gaps)]
    return {
        (("__name__", "steady_total"), ("instance", "a"), ("job", "x")): counter,
        (("__name__", "wild"), ("job", "ü b")): wild,
        (("__name__", "gone"), ("instance", "b"), ("job", "x")): ended,
    }


@pytest.fixture(scope="module")
def ours(data, tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    series = {key: define(dict(key)["__name__"], dict(key[1:])) for key in data}
    tables.define(series.values(), BEGIN_MS)
    tables.put([(series[key].series_id, t, v) for key, found in data.items() for t, v in found])
    service = service_over(tables, now_ms=BEGIN_MS + SAMPLES * STEP_MS)
    with (
        served(service) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def reading(ours, tmp_path_factory):
    """A Prometheus without samples that reads ours."""
    folder = tmp_path_factory.mktemp("reading")
    config = f"remote_read: [{{url: '{ours.base_url}/api/v1/read', read_recent: true}}]\n"
    with prometheus(folder, {}, config) as client:
        yield client


@pytest.fixture(scope="module")
def holding(data, tmp_path_factory):
    """A Prometheus that has the samples itself."""
    with prometheus(tmp_path_factory.mktemp("holding"), data) as client:
        yield client


QUERIES = [
    "steady_total",
    "wild",
    "gone",
    '{job=~".+"}',
    '{job="x",instance!="a"}',
    '{job!~"x|y"}[7m]',
    "rate(steady_total[5m])",
    "count_over_time(gone[20m])",
    "nothing",
]


@pytest.mark.parametrize("query", QUERIES)
def test_what_it_reads_is_what_was_stored(holding, reading, query):
    for at in range(0, SAMPLES, 97):
        params = {"query": query, "time": (BEGIN_MS + at * STEP_MS) / 1000 + 0.5}
        expected, found = (
            client.get("/api/v1/query", params=params).json() for client in (holding, reading)
        )
        assert found == expected, params


def read_request(*, kinds=b"", matcher=None):
    matcher = matcher or delimited_field(2, b"job") + delimited_field(3, b"x")
    query = b"\x08\x00" + b"\x10\xff\xff\xff\xff\xff\x7f" + delimited_field(3, matcher)
    return bytes(cramjam.snappy.compress_raw(delimited_field(1, query) + kinds))


def test_samples_one_by_one_are_there_for_clients_that_take_nothing_else(ours, data):
    answer = ours.post("/api/v1/read", content=read_request())

    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["content-encoding"] == "snappy"
    message = bytes(cramjam.snappy.decompress_raw(answer.content))
    (result,) = (field.delimited() for field in fields(message))
    series = [field.delimited() for field in fields(result)]
    counts = [sum(field.number == 2 for field in fields(one)) for one in series]
    expected = {key[0][1]: len(points) for key, points in data.items()}
    assert counts == [expected["gone"], expected["steady_total"]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "snappy"),
        (b"\xff\xff\xff\xff\x0f\x00", "expands"),
        (bytes(cramjam.snappy.compress_raw(b"\x0a\x7f")), "reaches over"),
        (read_request(matcher=b"\x08\x09"), "type 9"),
        (
            read_request(matcher=b"\x08\x02" + delimited_field(2, b"a") + delimited_field(3, b"(")),
            "regular expression",
        ),
    ],
)
def test_what_is_no_read_request_is_refused(ours, body, says):
    answer = ours.post("/api/v1/read", content=body)

    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert says in answer.json()["error"]
