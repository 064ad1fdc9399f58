"""Queries whose leaves executors of a real Spark compute, asked over Spark Connect."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import NOW_MS, fill, service_over
from tests.spark.connect_server import connect_server
from tests.tables import QUERY, WrittenTables
from varve.api.app import create_app
from varve.model.window import DAY_MS, HOUR_MS
from varve.promql import result_json
from varve.promql.errors import QueryCanceledError, StorageError
from varve.promql.evaluation.limits import Limits
from varve.query.evaluation import Options, Range, evaluate
from varve.query.tables import Tables
from varve.query.view import FileGone
from varve.services.query import executors_of
from varve.settings.query import Query
from varve.spark.executors import SparkExecutors

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore:.RETRIES_EXCEEDED"),  # of a server that was stopped
]

PATIENT = Limits(timeout_s=None)
END = NOW_MS // HOUR_MS * HOUR_MS
HALF_A_DAY = Range(END - DAY_MS // 2, END, 300_000)
HOURS = Range(END - DAY_MS, END, HOUR_MS)
QUESTIONS = (
    ("sum by (route) (rate(shop_requests_total[5m]))", HALF_A_DAY, None),
    ("stddev(shop_requests_total) + max(shop_requests_total offset 1h)", HALF_A_DAY, None),
    ("topk(2, irate(shop_requests_total[10m]))", HALF_A_DAY, None),
    ("sum(sum_over_time(node_load1[1d]))", END, None),
    ("avg by (instance) (increase(shop_requests_total[1h]))", HOURS, "1h"),
    ("quantile_over_time(0.9, node_load1[2h])", HOURS, "1h"),
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    written = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(written, days=1.5)
    written.roll_up()
    followed = Tables(written.store, [QUERY], 64 << 20)
    yield followed, written
    followed.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with connect_server(tmp_path_factory.mktemp("spark")) as started:
        yield started


def test_two_workers_of_spark_give_the_bytes_that_are_computed_here(tables, server):
    (followed, written), (url, process) = tables, server
    store = written.store
    executors = SparkExecutors(url, store, least_rows=-1, rows_a_task=1_500)
    view = followed.view
    for expression, times, tier in QUESTIONS:
        near = evaluate(view, expression, times, Options(PATIENT, tier=tier))
        far = evaluate(view, expression, times, Options(PATIENT, tier=tier, executors=executors))

        assert result_json.to_json(far.result) == result_json.to_json(near.result), expression
        assert far.result.stats.samples_touched == near.result.stats.samples_touched
        assert all(use.by_spark and use.rows for use in far.provenance.selectors)
        assert far.provenance.tier == near.provenance.tier

    _opens_a_session_anew_that_spark_has_closed(view, executors)
    _is_what_a_service_with_the_setting_does(written, url)
    _ends_when_it_is_told_to(view, executors)
    _says_that_files_are_gone(view, executors, store)
    process.terminate()
    process.wait(60)
    _says_that_spark_is_away(view, executors)
    executors.close()


def _opens_a_session_anew_that_spark_has_closed(view, executors):
    executors._session.stop()

    answer = evaluate(view, QUESTIONS[0][0], HALF_A_DAY, Options(PATIENT, executors=executors))

    assert len(answer.result.order) == 2


def _is_what_a_service_with_the_setting_does(tables, url):
    expression, times, _ = QUESTIONS[0]
    service = service_over(tables, limits=PATIENT)
    query = Query(spark_remote=url, spark_rows=0)
    executors = executors_of(query, tables.store)
    service.options = replace(service.options, executors=executors)
    asked = {
        "query": expression,
        "start": times.start_ms / 1000,
        "end": times.end_ms / 1000,
        "step": times.step_ms / 1000,
    }
    with TestClient(create_app(service)) as client:
        answer = client.get("/api/v1/query_range", params=asked).json()
    executors.close()

    assert answer["data"]["result"]
    assert [use["by_spark"] for use in answer["provenance"]["selectors"]] == [True]
    assert executors_of(Query(), tables.store) is None


def _ends_when_it_is_told_to(view, executors):
    cancelled = threading.Event()
    handed_over = executors.run

    def run(job, check):
        cancelled.set()
        return handed_over(job, check)

    executors.run = run
    options = Options(PATIENT, executors=executors, cancelled=cancelled)
    begun = time.monotonic()
    with pytest.raises(QueryCanceledError):
        evaluate(view, QUESTIONS[0][0], HALF_A_DAY, options)
    del executors.run

    assert time.monotonic() - begun < 30  # seconds; a job that goes on would take as long as it may


def _says_that_files_are_gone(view, executors, store):
    for file in view.all_files.within(END - HOUR_MS, END):
        (store.roots()[0].filesystem("samples")).delete_file(file.path)

    with pytest.raises(FileGone, match="cannot read samples"):
        evaluate(view, QUESTIONS[0][0], HALF_A_DAY, Options(PATIENT, executors=executors))


def _says_that_spark_is_away(view, executors):
    for _ in range(2):  # in the session that was open, and without one
        with pytest.raises(StorageError, match=r"Spark at sc://127\.0\.0\.1:\d+ (has|does not)"):
            evaluate(view, QUESTIONS[0][0], HALF_A_DAY, Options(PATIENT, executors=executors))
