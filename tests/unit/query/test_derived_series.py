"""Forecasts, baselines, scores and capacity asked in PromQL give what their tables say."""

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from varve.model.baseline_index import BaselineIndex
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.promql.errors import LimitError
from varve.promql.evaluation.limits import Limits
from varve.query.degraded import evaluate_or_estimate
from varve.query.derived_metrics import METRICS
from varve.query.derived_storage import storage_of
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import UNBOUNDED, MemoryBudget
from varve.query.reader import Reader
from varve.query.selectors import parse_selector
from varve.query.snapshots import Snapshots
from varve.query.step_cache import StepCache
from varve.query.tables import Tables
from varve.rules.rule_file import parse_rule_file
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

DOCS = Path(__file__).parents[3] / "docs"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = 1_795_392_000_000
LOAD = define("load", {"host": "a"}, metric_type="gauge")
DISK = define("disk_used", {"host": "b", "volume": "data"}, metric_type="gauge")


def append(store, table, rows):
    schema = table_schema(table)
    handle = Table(store, table)
    held = handle.position("test:0")
    keys = [("series_id", "ascending"), (schema.time_column, "ascending")]
    made = pa.Table.from_pylist(rows, schema.arrow).sort_by(keys)
    step = Step(held, (held or 0) + 1)
    commit(handle, [write_file(store, table, made)], transactions={"test:0": step})


def forecast_of(hour_ms, trained_ms):
    """Some number that is different for each hour and each forecast."""
    return (hour_ms - NOW) / HOUR + 1000 * (trained_ms - NOW) / DAY


def forecasts(series, trained_ms):
    return [
        {
            "series_id": series.series_id,
            "ts": ts,
            "value": forecast_of(ts, trained_ms),
            "lower": forecast_of(ts, trained_ms) - 1,
            "upper": forecast_of(ts, trained_ms) + 2,
            "coverage": 0.8,
            "model": "m",
            "trained_until": trained_ms,
        }
        for ts in range(trained_ms + HOUR, trained_ms + 7 * DAY + 1, HOUR)
    ]


def baseline(series, hour, mean, season):
    return {
        "series_id": series.series_id,
        "hour_of_week": hour,
        "mean": mean,
        "stddev": mean / 10,
        "count": 10_080,
        "computed_at": NOW,
        "season": season,
        "method": "mean",
        "is_rate": False,
        "error": 1.0,
        "revision": 1,
    }


def anomaly(end_ms, score, revision=1, *, far=True):
    return {
        "series_id": LOAD.series_id,
        "window_end": end_ms,
        "value": 1.0,
        "expected": 0.0,
        "stddev": 1.0,
        "score": score,
        "revision": revision,
        "detected_at": end_ms,
        "is_deviation": far,
        "rule": "default",
        "baseline_at": NOW,
    }


def capacity(at_ms, reaches_ms, probability=0.5, *, series=DISK):
    return {
        "series_id": series.series_id,
        "threshold": 9.0,
        "reaches_at": reaches_ms,
        "earliest_at": reaches_ms,
        "horizon_ms": 7 * DAY,
        "trained_until": at_ms,
        "resource": "disk",
        "reached": "above",
        "value": 1.0,
        "probability": probability,
        "state": "firing" if reaches_ms else "clear",
        "since": at_ms,
        "evaluated_at": at_ms,
        "reason": "",
    }


@pytest.fixture
def tables(tmp_path):
    written = WrittenTables(str(tmp_path / "tables"))
    written.define([LOAD, DISK])
    written.put([(LOAD.series_id, NOW, 1.0), (DISK.series_id, NOW, 2.0)], complete_ms=NOW)
    return written


def asked(tables, query, times, options=Options()):  # noqa: B008 - immutable
    return evaluate(Tables(tables.store, ["bulk"], 1 << 20).view, query, times, options).result


def vector(tables, query, at_ms):
    """Values by the labels that tell the series of a metric apart."""
    found = asked(tables, query, at_ms)
    return {
        tuple(row.get(name, "") for name in ("metric", "ahead", "quantile", "resource")): value
        for row, value in zip(found.value.labels.dicts(), found.value.values[:, 0], strict=True)
    }


def test_the_newest_forecast_of_each_time_is_there_at_any_minute_of_the_week_to_come(tables):
    append(tables.store, "forecasts", forecasts(LOAD, NOW - DAY))
    append(tables.store, "forecasts", forecasts(LOAD, NOW))

    found = vector(tables, "varve_forecast", NOW + 3 * DAY + 90 * MINUTE)
    hours = [NOW + 3 * DAY + HOUR, NOW + 3 * DAY + 2 * HOUR]
    halfway = sum(forecast_of(hour, NOW) for hour in hours) / 2
    assert found == {
        ("load", "", "0.1", ""): pytest.approx(halfway - 1),
        ("load", "", "0.5", ""): pytest.approx(halfway),
        ("load", "", "0.9", ""): pytest.approx(halfway + 2),
    }
    past = vector(tables, 'varve_forecast{quantile="0.5"}', NOW - 2 * HOUR)
    assert past == {("load", "", "0.5", ""): forecast_of(NOW - 2 * HOUR, NOW - DAY)}
    assert vector(tables, "varve_forecast", NOW + 8 * DAY) == {}
    assert vector(tables, 'varve_forecast{metric="disk_used"}', NOW + DAY) == {}
    assert vector(tables, 'varve_forecast{host=~"b|c"}', NOW + DAY) == {}


def test_what_was_forecast_ahead_is_as_it_was_known_then(tables):
    for trained in (NOW - DAY, NOW):
        append(tables.store, "forecasts", forecasts(LOAD, trained))

    before = vector(tables, 'varve_forecast_ahead{ahead="2d", quantile="0.5"}', NOW - HOUR)
    after = vector(tables, 'varve_forecast_ahead{ahead="2d", quantile="0.5"}', NOW + 2 * HOUR)

    key = ("load", "2d", "0.5", "")
    assert before == {key: forecast_of(NOW - HOUR + 2 * DAY, NOW - DAY)}
    assert after == {key: forecast_of(NOW + 2 * HOUR + 2 * DAY, NOW)}


def test_every_minute_of_forecasts_lies_on_the_line_between_two_hours(tables):
    append(tables.store, "forecasts", forecasts(LOAD, NOW))
    times = Range(NOW + 10 * MINUTE, NOW + 3 * HOUR, MINUTE)

    found = asked(tables, 'varve_forecast{quantile="0.5"}', times)

    steps = np.arange(times.start_ms, times.end_ms + 1, MINUTE)
    hours = np.arange(NOW + HOUR, NOW + 4 * HOUR, HOUR)
    first = np.maximum(steps, NOW + HOUR)  # an hour without one before it counts throughout
    expected = np.interp(first, hours, [forecast_of(int(hour), NOW) for hour in hours])
    np.testing.assert_allclose(found.value.values[0], expected)


def test_baselines_are_those_that_the_detector_would_look_up_at_any_time(tables):
    rows = [baseline(LOAD, -1, 5.0, "none"), baseline(DISK, -1, 7.0, "none")]
    rows += [baseline(DISK, hour, 100.0 + hour, "day") for hour in range(24)]
    append(tables.store, "baselines", rows)
    index = BaselineIndex.of(snapshot(tables.store, "baselines").scan(Bounds()))
    times = Range(NOW - DAY, NOW + 30 * DAY, 97 * MINUTE)

    for name, column in (("mean", index.mean), ("stddev", index.stddev)):
        found = asked(tables, f"varve_baseline_{name}", times)
        steps = np.arange(times.start_ms, times.end_ms + 1, times.step_ms)
        for row, labels in enumerate(found.value.labels.dicts()):
            of = LOAD if labels["metric"] == "load" else DISK
            ids = np.full(len(steps), of.series_id)
            at, there = index.look_up(ids, steps, plain=np.zeros(len(steps), np.bool_))
            assert there.all()
            np.testing.assert_array_equal(found.value.values[row], column[at])


def test_scores_are_there_while_a_series_is_far_off_and_end_with_that(tables):
    far = [anomaly(NOW + n * MINUTE, 4.0 + n) for n in range(3)]
    append(tables.store, "anomalies", far)
    append(tables.store, "anomalies", [anomaly(NOW + 2 * MINUTE, 0.5, 2, far=False)])

    found = asked(tables, "varve_anomaly_score", Range(NOW - MINUTE, NOW + 4 * MINUTE, MINUTE))

    assert found.value.present[0].tolist() == [False, True, True, False, False, False]
    assert found.value.values[0][1:3].tolist() == [4.0, 5.0]


def test_days_left_count_down_between_the_hours_at_which_a_resource_is_judged(tables):
    rows = [capacity(NOW, NOW + 2 * DAY), capacity(NOW + HOUR, None, 0.1)]
    append(tables.store, "capacity", rows)
    key = ("disk_used", "", "", "disk")

    half = vector(tables, "varve_capacity_days_left", NOW + HOUR // 2)
    assert half == {key: pytest.approx(2 - 0.5 / 24)}
    assert vector(tables, "varve_capacity_days_left", NOW + 90 * MINUTE) == {key: math.inf}
    assert vector(tables, "varve_capacity_probability", NOW + 90 * MINUTE) == {key: 0.1}
    assert vector(tables, "varve_capacity_days_left", NOW + 4 * HOUR) == {}, "nobody judges it"


def test_they_join_with_samples_and_keep_up_with_their_tables_beside_kept_steps(tables):
    tables.put([(LOAD.series_id, NOW + n * MINUTE, 9.0) for n in range(1, 10)])
    append(tables.store, "baselines", [baseline(LOAD, -1, 5.0, "none")])
    query = 'load - on(host) varve_baseline_mean{metric="load"}'
    times = Range(NOW + MINUTE, NOW + 9 * MINUTE, MINUTE)
    followed = Tables(tables.store, ["bulk"], 1 << 20)
    options = Options(steps=StepCache(1 << 20, MemoryBudget(UNBOUNDED)))

    def answer():
        followed.poll()
        return evaluate(followed.view, query, times, options).result.value.values[0].tolist()

    assert answer() == [4.0] * 9
    append(tables.store, "baselines", [{**baseline(LOAD, -1, 6.0, "none"), "computed_at": NOW + 1}])
    assert answer() == [3.0] * 9


def test_too_many_of_them_are_an_error_rather_than_an_estimate(tables):
    append(tables.store, "forecasts", forecasts(LOAD, NOW))
    times = Range(NOW, NOW + HOUR, MINUTE)
    view = Tables(tables.store, ["bulk"], 1 << 20).view

    with pytest.raises(LimitError, match=r"query\.max_samples = 10"):
        evaluate_or_estimate(
            view, "sum(varve_forecast)", times, Options(limits=Limits(max_samples=10))
        )


def test_an_earlier_snapshot_has_the_forecasts_of_then(tables):
    append(tables.store, "forecasts", forecasts(LOAD, NOW - DAY))
    followed = Tables(tables.store, ["bulk"], 1 << 20)
    before = followed.view.provenance.versions
    append(tables.store, "forecasts", forecasts(LOAD, NOW))
    followed.poll()
    snapshots = Snapshots(tables.store, ["bulk"], lambda: followed.view)
    query, at_ms = 'varve_forecast{quantile="0.5"}', NOW + DAY

    then = evaluate(snapshots.at(before), query, at_ms, Options()).result.value.values[0, 0]
    now = evaluate(followed.view, query, at_ms, Options()).result.value.values[0, 0]

    assert (then, now) == (forecast_of(at_ms, NOW - DAY), forecast_of(at_ms, NOW))


def test_metadata_lists_them_where_their_tables_have_rows(tables):
    append(tables.store, "forecasts", forecasts(LOAD, NOW))
    storage = storage_of(Reader(Tables(tables.store, ["bulk"], 1 << 20).view))
    far = (-(2**62), 2**62)

    names = storage.label_values("__name__", [], *far)
    assert {"varve_forecast", "varve_forecast_ahead", "load", "disk_used"} == {*names}
    one = [parse_selector('varve_forecast{quantile!="0.5"}')]
    assert storage.label_values("quantile", one, *far) == ["0.1", "0.9"]
    assert storage.label_names(one, *far) == ["__name__", "host", "metric", "quantile"]
    both = storage.series([*one, parse_selector("load")], NOW - HOUR, NOW + DAY)
    assert [dict(row)["__name__"] for row in both.labels()] == [
        "load",
        "varve_forecast",
        "varve_forecast",
    ]
    every = storage.series([parse_selector('{host="a"}')], NOW - HOUR, NOW + DAY)
    assert {dict(row)["__name__"] for row in every.labels()} == {"load"}


def test_every_metric_names_a_table_of_its_columns():
    for metric in METRICS.values():
        assert {*metric.columns} <= {*table_schema(metric.table).arrow.names}
        assert metric.help.endswith(".")


def test_the_documents_name_metrics_that_there_are_and_their_rules_are_well_formed():
    text = "".join((DOCS / name).read_text() for name in ("forecasting.md", "anomalies.md"))
    named = re.findall(r"varve_(?:forecast|baseline|anomaly|capacity)\w*", text)
    assert {*named} == {*METRICS}
    (rules,) = re.findall(r"^```yaml rules\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (group,) = parse_rule_file(rules, "docs")
    assert len(group.rules) == 2
