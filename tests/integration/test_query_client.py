"""varve.client.Query against a query service: the same numbers in Arrow, pandas and polars."""

from __future__ import annotations

import datetime as dt
import math

import polars as pl
import pyarrow as pa
import pytest

from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.tables import WrittenTables
from varve.access.credentials import Credentials
from varve.client import Query, QueryFailed
from varve.query.sql_processes import Bounds, SqlProcesses

NOW = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.02)
    return tables


@pytest.fixture(scope="module")
def url(tables):
    service = service_over(tables)
    service.credentials = Credentials({"notebook": "t0ken"}, {}, [])
    service.sql = SqlProcesses(tables.store, Bounds(memory_mb=256))
    with served(service) as url:
        yield url
    service.sql.close()


@pytest.fixture
def query(url):
    with Query(url, token="t0ken") as query:
        yield query


def test_a_range_has_a_row_for_each_point_with_its_labels(query):
    start = NOW - dt.timedelta(minutes=5)
    frame = query.range("rate(shop_requests_total[1m])", start=start, end=NOW, step="1m")

    assert frame.arrow.column_names == ["instance", "job", "route", "timestamp", "value"]
    assert frame.arrow.num_rows == 4 * 6
    found = frame.to_pandas()
    assert found.attrs["provenance"]["snapshot"] == frame.snapshot != ""
    assert found.groupby("instance", observed=True)["value"].mean().to_dict() == pytest.approx(
        {"h0": 1.0, "h1": 2.0, "h2": 3.0, "h3": 4.0}
    )
    assert found["timestamp"].max() == NOW
    assert found["timestamp"].min() == start
    same = frame.to_polars()
    assert same["value"].to_list() == found["value"].to_list()
    assert same.schema["timestamp"] == pl.Datetime("ms", "UTC")
    seconds = query.range(
        "rate(shop_requests_total[1m])", start=start.timestamp(), end=NOW.isoformat(), step=60
    )
    assert seconds.arrow.equals(frame.arrow)


def test_an_instant_answer_may_be_a_vector_a_number_or_a_text(query):
    vector = query.instant('{job=~"node|demo-shop"}', at=NOW)

    assert vector.arrow.column_names[0] == "__name__"
    rows = {row["__name__"]: row for row in vector.arrow.to_pylist()}
    assert math.isnan(rows["disk.free"]["value"])
    assert rows["disk.free"]["mount point"] == "/"
    assert rows["shop_requests_total"]["mount point"] is None
    assert query.instant("1 / 0", at=NOW).arrow["value"].to_pylist() == [math.inf]
    assert query.instant('"text"', at=NOW).arrow["value"].to_pylist() == ["text"]
    nothing = query.instant("nothing", at=NOW)
    assert (nothing.arrow.num_rows, len(nothing.infos)) == (0, 1)


def test_a_range_of_samples_comes_as_it_was_stored(query):
    frame = query.instant("shop_requests_total{instance='h0'}[1m]", at=NOW)

    assert frame.arrow.num_rows == 4
    assert frame.arrow["timestamp"].to_pylist()[-1] == NOW


def test_as_of_a_snapshot_the_answer_stays(query, tables, url):
    before = query.instant("sum(shop_requests_total)", at=NOW)
    series = query.series('{job="demo-shop"}')
    tables.put([(s, NOW_MS - 1, 1e9) for s in (1, 2)])

    with Query(url, token="t0ken", as_of=before.snapshot) as then:
        assert then.instant("sum(shop_requests_total)", at=NOW).arrow.equals(before.arrow)
        assert then.sql("SELECT count(*) AS n FROM samples").arrow["n"].to_pylist() == [
            query.sql("SELECT count(*) - 2 AS n FROM samples").arrow["n"][0].as_py()
        ]
        assert then.series('{job="demo-shop"}').arrow.equals(series.arrow)


def test_sql_comes_in_its_own_types(query):
    frame = query.sql("SELECT metric, count(*) AS n, max(timestamp) AS at FROM raw GROUP BY ALL")

    assert frame.arrow.schema.field("n").type == pa.int64()
    assert set(frame.to_pandas()["metric"]) >= {"shop_requests_total", "node_load1"}
    assert frame.snapshot


def test_series_and_values_of_labels(query):
    series = query.series('{job="demo-shop"}')

    assert sorted(series.arrow["instance"].to_pylist()) == ["h0", "h1", "h2", "h3"]
    assert query.label_values("route", "shop_requests_total") == ["/r0", "/r1"]
    assert query.label_values("mount point") == ["/"]
    assert query.label_values("instance", start=0, end=1_000) == query.label_values("instance")


def test_what_goes_wrong_is_one_error_that_says_why(query, url):
    with pytest.raises(QueryFailed, match="unclosed left parenthesis") as found:
        query.instant("sum(")
    assert (found.value.error_type, found.value.position is not None) == ("bad_data", True)
    with pytest.raises(QueryFailed, match="Parser Error"):
        query.sql("SELECT FROM FROM")
    with Query(url) as stranger, pytest.raises(QueryFailed, match="token"):
        stranger.instant("1")
    with Query("http://127.0.0.1:1") as nobody, pytest.raises(QueryFailed, match="no answer"):
        nobody.instant("1")
    with pytest.raises(ValueError, match="time zone"):
        query.instant("1", at=dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
