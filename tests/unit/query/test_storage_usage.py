import shutil

import pytest

from tests.tables import WrittenTables
from varve.ingest.limits import parse
from varve.maintenance.tiering import Tiering
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS
from varve.query import storage_usage
from varve.query.storage_usage import Prices, usage
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

BEGIN = 1_795_305_600_000
DAYS = 4
PRICES = Prices(hot=8e6, warm=4e6, cold=2e6, currency="EUR")
REQUESTS = [
    define("requests_total", {"host": host, "pod": f"{host}{pod}"})
    for host in "ab"
    for pod in range(3)
]
DEPTH = define("depth", {"host": "a"})
LIMITS = parse("[metric.requests_total]\nseries = 2\n", "limits.toml")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A sample an hour of seven series, and a second one each hour of one of them."""
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define([*REQUESTS, DEPTH], BEGIN)
    for day in range(DAYS):
        times = range(BEGIN + day * DAY_MS + HOUR_MS, BEGIN + (day + 1) * DAY_MS + 1, HOUR_MS)
        put = [(s.series_id, ts, 1.0) for s in (*REQUESTS, DEPTH) for ts in times]
        put += [(DEPTH.series_id, ts - 1, 1.0) for ts in times]
        tables.put(put, complete_ms=times[-1])
    tables.roll_up()
    return tables


@pytest.fixture
def found(tables):
    return usage(tables.store, PRICES, LIMITS, 20)


def size(store, *names):
    return sum(file.size for name in names for file in snapshot(store, name).files)


def test_tables_are_what_their_files_are(tables, found):
    samples = next(use for use in found.tables if use.table == "samples")

    assert (samples.root, samples.rows) == ("hot", DAYS * 24 * 8)
    assert samples.bytes == size(tables.store, "samples")
    assert samples.cost == pytest.approx(samples.bytes / 1e9 * 8e6)
    assert samples.days == pytest.approx(DAYS - 1 / 24, abs=0.01)
    assert found.bytes == sum(use.bytes for use in found.tables)
    assert found.samples == samples.rows
    assert found.series == 7


def test_bytes_are_shared_out_among_metrics_by_rows(tables, found):
    by_name = {use.metric: use for use in found.metrics}
    names = ("samples", "rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d")

    assert sum(use.bytes for use in found.metrics) == pytest.approx(
        size(tables.store, *names), abs=2
    )
    assert by_name["requests_total"].samples == DAYS * 24 * 6
    assert by_name["depth"].samples == DAYS * 24 * 2
    assert by_name["requests_total"].series == 6


def test_a_label_says_how_many_series_would_be_left_without_it(found):
    labels = {use.label: (use.values, use.series, use.series_without) for use in found.labels}

    # Pods of one host differ in nothing else; a host says nothing that its pods do not.
    assert labels == {"pod": (6, 6, 2), "host": (2, 7, 7)}


def test_what_would_save_is_told_by_retention_metric_label_and_limit(tables, found):
    savings = {saving.what: saving.bytes for saving in found.savings}
    samples = size(tables.store, "samples")
    requests = next(use.bytes for use in found.metrics if use.metric == "requests_total")
    pods = next(use.bytes for use in found.labels if use.label == "pod")

    half = next(what for what in savings if what.startswith("keep samples for 2.0 days, not 4.0"))
    assert savings[half] == pytest.approx(samples / 2, rel=0.05)
    one_day = "keep samples of requests_total for 1 day (limits.toml, [retention.NAME])"
    assert savings[one_day] == pytest.approx(samples * 6 / 8 * 3 / 4, rel=0.02)
    assert savings["drop the label pod: 6 series become 2"] == pytest.approx(pods * 4 / 6, abs=1)
    assert savings["hold requests_total to its limit of 2 series, not 6"] == pytest.approx(
        requests * 4 / 6, abs=1
    )
    assert not any("host" in what for what in savings)
    assert [s.cost for s in found.savings] == sorted((s.cost for s in found.savings), reverse=True)


def test_of_many_rows_some_files_are_looked_at(tables, found, monkeypatch):
    monkeypatch.setattr(storage_usage, "ROWS_LOOKED_AT", DAYS * 24 * 8 // 2)

    some = usage(tables.store, PRICES, LIMITS, 20)

    assert some.bytes == found.bytes
    shares = [{use.metric: use.bytes for use in each.metrics} for each in (some, found)]
    for metric, nbytes in shares[1].items():
        assert shares[0][metric] == pytest.approx(nbytes, rel=0.05)


def test_what_lies_in_a_colder_root_has_its_price(tables, found, tmp_path):
    shutil.copytree(tables.store.root, tmp_path / "hot")
    store = Store(str(tmp_path / "hot"), colder=Store(str(tmp_path / "cold")))
    tiering = Tiering(store, [DAY_MS])
    for now_ms in (BEGIN + DAYS * DAY_MS, BEGIN + DAYS * DAY_MS + HOUR_MS):
        for due in tiering.due("samples", now_ms):
            tiering.move(due)

    moved = usage(store, PRICES, LIMITS, 20)

    samples = {use.root: use for use in moved.tables if use.table == "samples"}
    assert samples["hot"].rows + samples["cold"].rows == found.samples
    assert samples["cold"].cost == pytest.approx(samples["cold"].bytes / 1e9 * 2e6)
    assert sum(use.bytes for use in moved.metrics) == pytest.approx(
        sum(use.bytes for use in found.metrics), abs=2
    )
    cheaper = samples["cold"].bytes / 1e9 * (8e6 - 2e6)
    assert sum(use.cost for use in moved.metrics) == pytest.approx(
        sum(use.cost for use in found.metrics) - cheaper
    )
