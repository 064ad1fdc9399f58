from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.integration.api_service import app_over
from tests.plans import open_registry, task_plan
from tests.tables import WrittenTables
from tests.unit.ingest.test_active_series import close
from varve.cli.main import main
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_registry import Full
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS
from varve.promql.labels.label_table import LabelTable
from varve.query.cardinality import LabelUse, MetricUse, counts, report
from varve.storage.commit import Step, commit
from varve.storage.table import Table

NOW_MS = 1_800_000_000_000 // HOUR_MS * HOUR_MS
PODS = [define("requests", {"pod": f"p{n}", "zone": "ab"[n % 2]}) for n in range(6)]
OTHERS = [define("errors", {"zone": "ä"}), define("up", {})]

label_sets = st.lists(
    st.dictionaries(
        st.sampled_from(["__name__", "a", "b"]), st.sampled_from(["", "x", "yy", "ü"]), max_size=3
    ),
    max_size=8,
)


@given(label_sets, st.integers(1, 4))
def test_counts_are_those_of_going_through_every_series(rows, top):
    pairs = Counter((name, value) for row in rows for name, value in row.items() if value)

    found = counts(LabelTable.of(rows), top)

    def ranked(numbers):
        return sorted(numbers.items(), key=lambda item: (-item[1], item[0]))[:top]

    names = {name for row in rows for name in row}
    assert (found.series, found.label_pairs) == (len(rows), len(pairs))
    assert found.series_of_metric == ranked(
        {value: n for (name, value), n in pairs.items() if name == "__name__"}
    )
    assert found.values_of_label == ranked({n: sum(k == n for k, _ in pairs) for n in names})
    assert found.series_of_pair == ranked({f"{k}={v}": n for (k, v), n in pairs.items()})
    assert found.bytes_of_label == ranked(
        {n: sum(len(v.encode()) * c for (k, v), c in pairs.items() if k == n) for n in names}
    )


@pytest.fixture
def tables(tmp_path):
    """Pods p0 to p3 were seen a day ago and more, p4 and p5 of late; the others are new."""
    tables = WrittenTables(str(tmp_path / "home" / "tables"))
    store = tables.store
    open_registry(store, clock=ManualClock(NOW_MS - 3 * DAY_MS)).register([(s, 0) for s in PODS])
    open_registry(store, clock=ManualClock(NOW_MS - 2 * HOUR_MS)).register([(OTHERS[0], 0)])
    open_registry(store, clock=ManualClock(NOW_MS - HOUR_MS // 2)).register([(OTHERS[1], 0)])
    seen = [(pod.series_id, NOW_MS - (26 - 5 * n) * HOUR_MS) for n, pod in enumerate(PODS)]
    close(store, sorted(row for row in seen if row[0] != PODS[0].series_id), NOW_MS)
    plan = task_plan(
        store, now_ms=NOW_MS - HOUR_MS, newest_ms=NOW_MS, full=Full(frozenset({"requests"}))
    )
    message = b'{"metric": "requests", "value": 1, "timestamp": %d}' % (NOW_MS // 1000)
    (outcome,) = run_task([Message("t", 0, 0, 0, message), Message("t", 0, 1, 0, b"x")], plan)
    commit(Table(store, "quarantine"), outcome.quarantine, transactions={"t": Step(None, 0)})
    return tables


def test_a_report_tells_what_is_active_new_and_refused(tables):
    limits = Limits(series=100, metrics={"requests": MetricLimits(series=8)})

    found = report(tables.store, limits, active_ms=12 * HOUR_MS, now_ms=NOW_MS, top=2, metric=None)

    assert (found.registered, found.active, found.limit) == (8, 5, 100)
    assert (found.new_1h, found.new_24h) == (1, 2)
    assert found.metrics == [
        MetricUse("requests", 3, 8, 0, 0),
        MetricUse("errors", 1, limits.default.series, 0, 1),
    ]
    assert found.labels == [
        LabelUse("pod", 3, ("p3", "p4", "p5")),
        LabelUse("zone", 3, ("b", "a", "ä")),
    ]
    assert found.refused == {Reason.CARDINALITY_LIMIT.value: 1}


def test_a_report_of_one_metric_has_only_its_series(tables):
    found = report(tables.store, Limits(), active_ms=DAY_MS, now_ms=NOW_MS, top=9, metric="errors")

    assert [m.metric for m in found.metrics] == ["errors"]
    assert (found.active, found.new_24h) == (1, 1)
    assert found.labels == [LabelUse("zone", 1, ("ä",))]


def test_the_status_of_the_tsdb_has_the_shape_of_prometheus(tables):
    with TestClient(app_over(tables)) as client:
        got = client.get("/api/v1/status/tsdb", params={"limit": 1}).json()["data"]

    assert got["headStats"] == {
        "numSeries": 8,
        "numLabelPairs": 3 + 6 + 3,
        "chunkCount": 0,
        "minTime": 0,
        "maxTime": 0,
    }
    assert got["seriesCountByMetricName"] == [{"name": "requests", "value": 6}]
    assert got["labelValueCountByLabelName"] == [{"name": "pod", "value": 6}]
    assert got["memoryInBytesByLabelName"] == [{"name": "__name__", "value": 6 * 8 + 6 + 2}]
    assert got["seriesCountByLabelValuePair"] == [{"name": "__name__=requests", "value": 6}]


def test_the_status_of_the_tsdb_says_what_times_there_are(tables):
    for ts in (NOW_MS, NOW_MS + 60_000):
        tables.put([(OTHERS[1].series_id, ts, 1.0)])

    with TestClient(app_over(tables)) as client:
        head = client.get("/api/v1/status/tsdb").json()["data"]["headStats"]

    assert (head["minTime"], head["maxTime"]) == (NOW_MS, NOW_MS + 60_000)
    assert head["chunkCount"] >= 1


def test_the_command_prints_it(tables, tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]

    assert main(["cardinality", *home]) == 0
    text = capsys.readouterr().out
    assert main(["cardinality", *home, "--metric", "nothing"]) == 1
    assert main(["cardinality", *home, "--top", "0"]) == 1

    assert "8 ever registered" in text
    assert "requests" in text
    assert '"p4"' in text
