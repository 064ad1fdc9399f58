"""What several suites share: one real broker and one Spark session for the whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadscope import LoadScopeScheduling

from varve.local import broker
from varve.local.broker import Broker
from varve.model.errors import NeedsOperator

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A machine may be slow and busy: how long an example takes says nothing about what it shows.
settings.register_profile("varve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("varve")

pytest.register_assert_rewrite("tests.unit.promql.storage_suite")

# What one process of a run finds free, and is about to listen on, the other must not find.
_SHARE = len(broker.PORTS) // 2
_FIRST = _SHARE * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2)
broker.PORTS = broker.PORTS[_FIRST : _FIRST + _SHARE]


# Suites whose tests share the Spark session, and those that share no more than a broker.
SHARED = {
    "spark": (
        "tests/integration/gateway/test_gateway.py",
        "tests/integration/gateway/test_records.py",
        "tests/integration/ingest/",
        "tests/integration/rollup/",
        "tests/spark/",
    ),
    "broker": (
        "tests/integration/client/",
        "tests/integration/collectors/",
        "tests/integration/gateway/",
        "tests/integration/rules/",
    ),
}


class Scheduling(LoadScopeScheduling):
    """What shares the Spark session or a broker runs in one process, beside one for the rest; a
    file is never torn between two.
    """

    def _split_scope(self, nodeid: str) -> str:
        for scope, suites in SHARED.items():
            if nodeid.startswith(suites):
                return scope
        return nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How `make test` shares tests out."""
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker without topics: make your own, of your own name. Skips without Java."""
    broker = Broker(tmp_path_factory.mktemp("kafka broker"))
    try:
        broker.start()
    except NeedsOperator as err:
        if "cannot run" in str(err):
            pytest.skip(str(err))
        raise
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of the run, two tasks at once. Skips without Java."""
    if shutil.which("java") is None:
        pytest.skip("no java on PATH")
    from varve.spark.session import local_conf, session

    conf = local_conf("local[2]", 1024, tmp_path_factory.mktemp("spark"))
    running = session("varve-tests", {**conf, "spark.sql.shuffle.partitions": "2"})
    yield running
    running.stop()
