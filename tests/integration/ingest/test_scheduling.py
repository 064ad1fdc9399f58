"""How a batch is cut into tasks, and whom its tasks wait for."""

import json

import pytest

from tests.integration.ingest.test_ingest import Line, sample
from varve.model.clock import SystemClock
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables", partitions=1)
    yield line
    line.close()


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
