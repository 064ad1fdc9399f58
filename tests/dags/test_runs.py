"""Real runs of the DAGs on a small home: afterwards the tables are as the jobs promise."""

import json

import jsonschema
import pyarrow.compute as pc
import pytest
from kafka import KafkaConsumer

from tests.dags.conftest import BEGIN, DAY_MS, DAYS
from varve.model.resources import schemas_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

pytestmark = [pytest.mark.airflow, pytest.mark.kafka]


def times(tables):
    return times_of(tables.store)


def times_of(store):
    return sorted(snapshot(store, "samples").scan(Bounds(), ["ts"])["ts"].to_pylist())


@pytest.fixture(scope="module")
def compacted(airflow, tables):
    before = times(tables)
    log = airflow.test("compaction")
    return before, log


def test_compaction_merges_the_files_of_a_period_and_no_row_is_lost(compacted, tables):
    before, log = compacted

    assert times(tables) == before
    assert len(snapshot(tables.store, "samples").files) == DAYS
    assert "11 files became 1; 0 merges are left to the next run" in log


def test_retention_deletes_what_is_old_and_nothing_else(compacted, airflow, tables):
    old = BEGIN + 4 * DAY_MS  # 15 days before the last that is complete

    log = airflow.test("retention")

    assert times(tables) == [ts for ts in compacted[0] if ts > old]
    assert "4 rows have gone; 0 expiries are left to the next run" in log


def test_tiering_copies_old_files_to_the_colder_root(compacted, airflow, tables):
    log = airflow.test("tiering")

    cold = Store(f"{tables.store.root}-cold")
    assert "0 removed above, 0 stay above" in log
    assert 10 <= len(times_of(cold)) < len(compacted[0])
    assert set(times_of(cold)) <= set(times(tables))
    # The copies take over in a later run, a quarter of an hour on.
    airflow.test("tiering")
    assert len(times(tables)) == len(times_of(tables.store))


def test_baselines_are_brought_up_to_date(airflow):
    log = airflow.test("baselines")

    assert "'is_done': True" in log


def test_quality_checks_the_interval_of_its_run(compacted, airflow, tables):
    log = airflow.test("quality", "2021-01-15")

    found = snapshot(tables.store, "quality").scan(Bounds())
    day = BEGIN + 13 * DAY_MS
    assert set(found["start_ms"].to_pylist()) == {day}
    assert set(found["end_ms"].to_pylist()) == {day + DAY_MS}
    assert f"{found.num_rows} expectations" in log
    assert found.filter(pc.field("suite") == "recomputed")["success"].to_pylist() == [True]


def test_forecasts_are_made_of_what_capacity_toml_selects(airflow):
    log = airflow.test("capacity_forecast")

    assert "forecasts: {" in log


def test_a_job_that_fails_is_an_event_on_the_topic_alerts(airflow, kafka_broker):
    folders = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(airflow.failing_dags),
        "PYTHONPATH": str(airflow.dags),
    }

    with pytest.raises(AssertionError, match="state=failed"):
        airflow.test("failing", **folders)

    consumer = KafkaConsumer(
        "alerts",
        bootstrap_servers=kafka_broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
    )
    events = (json.loads(message.value) for message in consumer)
    event = next(event for event in events if event["rule"] == "VarveJobFailed")
    consumer.close()
    schema = json.loads((schemas_dir() / "wire" / "alert-event.schema.json").read_text())
    jsonschema.validate(event, schema)
    assert event["state"] == "firing"
    assert event["labels"] == {
        "alertname": "VarveJobFailed",
        "dag_id": "failing",
        "task_id": "submit",
        "severity": "warning",
    }
    assert "exit code 2" in event["annotations"]["summary"]
