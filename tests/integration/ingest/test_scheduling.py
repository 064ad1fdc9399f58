"""How a batch is cut into tasks, and whom its tasks wait for."""

import json

import pytest

from tests.integration.ingest.test_ingest import Line, arrow, sample
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.spark import ingest
from varve.storage.log import entries
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables", partitions=1)
    yield line
    line.close()


def test_a_long_batch_is_cut_into_tasks_and_a_definition_in_one_serves_the_others(
    line, monkeypatch
):
    monkeypatch.setattr(ingest, "_MESSAGES_PER_TASK", 4)
    monkeypatch.setattr(ingest, "_FEW_MESSAGES", 0)
    now, series = SystemClock().now_ms(), define("temperature", {"room": "loft"})
    for n in range(12):
        line.send(arrow(series, [now + n], [float(n)], defined=n == 5))

    line.drain()

    assert sorted(r["value"] for r in line.rows("samples")) == [float(n) for n in range(12)]
    assert line.rows("quarantine") == []
    table = Table(line.store, "samples")
    batches = [e for e in entries(line.store, "samples", -1, table.version) if e.adds]
    assert [len(e.adds) for e in batches] == [3]


def test_a_short_batch_is_one_task(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables", partitions=3)
    now = SystemClock().now_ms()
    for n in range(6):
        line.send(json.dumps(sample(now + n)).encode(), n % 3)

    line.drain()
    line.close()

    assert [f.rows for f in Table(line.store, "samples").live_files().values()] == [6]


def test_each_query_has_its_own_share_of_the_cores(line, spark):
    line.send(json.dumps(sample(SystemClock().now_ms())).encode())
    line.drain(query="bulk")
    line.drain(query="critical")

    scheduler = spark.sparkContext._jsc.sc()
    for pool in ("bulk", "critical"):
        assert scheduler.getPoolForName(pool).isDefined()
