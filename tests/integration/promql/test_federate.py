"""What is there to be scraped, by this service and by a real Prometheus, of the same samples."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.integration.api_service import served, service_over
from tests.integration.promql.prometheus import missing, prometheus
from tests.tables import WrittenTables
from varve.model.identity import define

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

SERIES = {
    (("__name__", "requests_total"), ("code", "200"), ("job", "web")): [1.0, 2.0, 3.0],
    (("__name__", "requests_total"), ("code", "500"), ("job", "web")): [1.5, float("nan")],
    (("__name__", "up"), ("instance", "a:1"), ("job", "web")): [1.0],
    (("__name__", "up"), ("instance", 'b"\\\n'), ("job", "web")): [float("inf"), None],
    (("__name__", "free:bytes"), ("instance", "é"), ("path", 'C:\\"x"\n')): [1e21, 123456789.125],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federate")
    now_ms = int(time.time()) * 1000
    data = {
        key: [(now_ms - 60_000 + 15_000 * i, v) for i, v in enumerate(values)]
        for key, values in SERIES.items()
    }
    # Older than the lookback.
    data[(("__name__", "up"), ("job", "old"))] = [(now_ms - 400_000, 1.0)]
    tables = WrittenTables(str(folder / "tables"))
    series = {key: define(dict(key)["__name__"], dict(key[1:])) for key in data}
    tables.define(series.values(), now_ms)
    tables.put([(series[key].series_id, t, v) for key, found in data.items() for t, v in found])
    with (
        prometheus(folder, data) as oracle,
        served(service_over(tables, now_ms=now_ms)) as address,
        httpx.Client(base_url=address, timeout=60) as ours,
    ):
        yield oracle, ours


@pytest.mark.parametrize(
    "matches",
    [
        ['{job=~".+"}'],
        ["up"],
        ['requests_total{code="500"}', "up"],
        ['{__name__=~"free.*"}'],
        ["x"],
    ],
)
def test_it_is_the_same_text_but_for_how_numbers_are_written(both, matches):
    expected, found = (
        client.get("/federate", params={"match[]": matches}).text.splitlines() for client in both
    )

    def split(line):
        series, value, at = line.rsplit(" ", 2)
        return (line,) if line.startswith("#") else (series, repr(float(value)), at)

    assert list(map(split, found)) == list(map(split, expected))
