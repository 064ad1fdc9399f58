"""What queries may take: samples of their own series, memory of one budget, time since arrival."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.integration.faulty_store import FaultyStore
from tests.integration.test_query_follow import END, START, UP, opened, put, samples, settle
from tests.tables import WrittenTables
from varve.api.app import create_app
from varve.model.identity import define
from varve.promql.errors import LimitError, QueryTimeoutError
from varve.promql.evaluation.limits import Limits
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.evaluation import Options, Range, evaluate
from varve.query.file_table import FileTable
from varve.query.memory import HEAD, QUERIES, MemoryBudget, Reservation
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.settings.tree import settings_there_are
from varve.storage.snapshot import snapshot

DAY_MS = 86_400_000
MANY = [define("busy", {"instance": f"i{i}"}) for i in range(400)]
NOW = NOW_MS / 1000


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


def cold(followed, tables):
    """The view with nothing in the head."""
    files = FileTable(snapshot(tables.store, "samples").files)
    return replace(followed.view, head=(), files=files)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        ({"max_samples": 1}, "query.max_samples = 1"),
        ({"max_series": 3}, "query.max_series = 3"),
        ({"max_points": 7}, "query.max_points = 7"),
        ({"timeout_s": 1e-9}, "query.timeout_s"),
        ({}, "query.memory_mb = 1"),
    ],
)
def test_an_error_of_a_limit_names_its_setting(tables, limits, setting):
    fill(tables, days=0.05)
    key = setting.split(" ")[0]
    assert key in {known.key for known in settings_there_are()}
    service = service_over(tables, limits=replace(Limits(), **limits))
    if key == "query.memory_mb":
        service.memory = MemoryBudget(1 << 20)
    client = TestClient(create_app(service))

    asked = {"query": "shop_requests_total", "start": NOW - 3_600, "end": NOW, "step": 1}
    answer = client.get("/api/v1/query_range", params=asked).json()

    assert answer["status"] == "error"
    assert setting in answer["error"]


@pytest.fixture
def day(tables):
    """400 series, 144 samples each in 24 files; the first ten have ended long before."""
    tables.define([*MANY, *UP], START)
    for hour in range(24):
        begin = START + hour * 3_600_000
        tables.put(
            (s.series_id, begin + k * 600_000, float(k)) for s in MANY[10:] for k in range(6)
        )
    tables.put([(s.series_id, START - DAY_MS, 1.0) for s in MANY[:10]])
    return cold(opened(tables), tables)


def options(max_samples, **more):
    return Options(Limits(max_samples=max_samples, **more))


def test_samples_of_other_series_in_the_same_files_do_not_count(day):
    query = 'sum_over_time(busy{instance="i77"}[1d])'

    answer = evaluate(day, query, START + DAY_MS - 1, options(max_samples=500))

    assert answer.result.stats.samples_touched == 144
    with pytest.raises(LimitError, match="max_samples = 100"):
        evaluate(day, query, START + DAY_MS - 1, options(max_samples=100))


def test_a_selection_over_the_limit_is_refused_with_its_number(day):
    with pytest.raises(LimitError, match=r"56,160 are over query.max_samples = 50,000"):
        evaluate(day, "sum_over_time(busy[1d])", START + DAY_MS - 1, options(50_000))


def test_what_was_read_to_be_counted_is_not_read_again(day):
    reader = Reader(day, max_samples=500)
    matcher = Matcher("instance", MatchOp.EQUAL, "i77")
    before = day.row_groups.decoded
    counted = reader.count([matcher], START - 1, START + DAY_MS)
    decoded = day.row_groups.decoded

    selection = reader.select([matcher], START - 1, START + DAY_MS, SelectHints())

    assert counted == (1, 144)
    assert decoded == before + 24
    assert day.row_groups.decoded == decoded
    assert int((selection.samples.ends - selection.samples.begins).sum()) == 144


def test_series_that_ended_before_do_not_count_in_every_step(tables):
    ended = [define("pod", {"id": f"p{i}"}) for i in range(3_000)]
    tables.define(ended, START)
    tables.put((s.series_id, START, 1.0) for s in ended)
    living = ended[:5]
    tables.put((s.series_id, START + DAY_MS + k * 15_000, 1.0) for s in living for k in range(40))
    view = cold(opened(tables), tables)
    hour = Range(START + DAY_MS, START + DAY_MS + 600_000, 1_000)

    # 3,000 series in 601 steps are 1.8 million values; those of the living are few.
    answer = evaluate(view, "pod", hour, options(max_samples=150_000))

    assert len(answer.result.order) == 5
    everything = Range(START, START + 600_000, 1_000)
    with pytest.raises(LimitError):
        evaluate(view, "pod", everything, options(max_samples=150_000))


def test_what_a_query_reads_is_counted_in_memory_and_given_back(day):
    budget = MemoryBudget(1 << 30)
    with Reservation(budget) as memory:
        evaluate(day, "busy[1d]", START + DAY_MS - 1, replace(options(None), memory=memory))
        taken = budget.used[QUERIES]

    assert taken > 16 * 390 * 144
    assert budget.used[QUERIES] == 0


def test_a_query_that_does_not_fit_in_memory_is_refused_before_it_is_read_whole(day):
    budget = MemoryBudget(700_000)
    decoded = day.row_groups.decoded

    with Reservation(budget) as memory, pytest.raises(LimitError, match="query.memory_mb"):
        evaluate(day, "busy[1d]", START + DAY_MS - 1, replace(options(None), memory=memory))

    assert 0 < day.row_groups.decoded - decoded < 24
    assert budget.used[QUERIES] == 0


@pytest.mark.parametrize("query", ["busy", "busy * 2 + busy", "max_over_time(busy[1m:10s])"])
def test_values_that_a_query_computes_are_memory_too_before_they_are_made(day, query):
    budget = MemoryBudget(16 << 20)
    times = Range(START, START + DAY_MS - 1, 10_000)  # 390 series in 8,640 steps are 30 MB

    with Reservation(budget) as memory, pytest.raises(LimitError, match="query.memory_mb = 16"):
        evaluate(day, query, times, replace(options(None), memory=memory))

    assert budget.used[QUERIES] == 0


@pytest.mark.parametrize("bound", [200, 20_000, 100_000])
def test_the_head_stays_in_its_bound_even_if_one_hour_is_over_it(tables, bound):
    tables.define([*MANY, *UP], START)
    budget = MemoryBudget(1 << 30)
    followed = Tables(tables.store, ["bulk"], 2 * bound, budget)
    for k in range(30):
        tables.put([(s.series_id, START + k, 1.0) for s in MANY[: 1 + 13 * k]])
        settle(followed)

        held = sum(run.nbytes for run in followed.view.head)
        assert held <= bound
        assert budget.used[HEAD] == held

    reader = Reader(followed.view)
    found = reader.select([Matcher("__name__", MatchOp.EQUAL, "busy")], 0, END, SelectHints())
    assert int((found.samples.ends - found.samples.begins).sum()) == sum(
        1 + 13 * k for k in range(30)
    )
    followed.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=1)
    return tables


def test_answers_are_counted_until_they_are_sent(filled):
    service = replace(service_over(filled), memory=MemoryBudget(1 << 20))
    small = {"query": "shop_requests_total"}
    large = {"query": "shop_requests_total", "start": NOW - 86_400, "end": NOW, "step": 10}
    with TestClient(create_app(service)) as client:
        for _ in range(5):
            refused = client.get("/api/v1/query_range", params=large)
            answered = client.get("/api/v1/query", params=small)
            text = client.get("/metrics").text

            assert refused.status_code == 422
            assert "query.memory_mb = 1" in refused.json()["error"]
            assert answered.status_code == 200
            assert 'varve_query_memory_bytes{use="queries"} 0.0' in text


def held_service(tmp_path, *, threads, timeout_s=60.0):
    """A service whose one query of `up` waits for its file, and the fault that holds it up."""
    tables = WrittenTables(str(tmp_path / "tables"))
    tables.define(UP)
    put(tables, START)
    store = FaultyStore(tables.store.root)
    followed = Tables(store, ["bulk"], 16 << 20)
    service = service_over(tables, limits=Limits(timeout_s=timeout_s))
    service.threads = threads
    view = cold(followed, tables)
    service.view = lambda: view
    store.fault.hold(*(file.path for file in snapshot(tables.store, "samples").files))
    return service, store.fault, tables, followed


def asked(url, **parameters):
    """Status, body and seconds of a query."""
    began = time.monotonic()
    form = urllib.parse.urlencode(parameters).encode()
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query", form, timeout=60) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as err:
        status, body = err.code, err.read()
    return status, json.loads(body), time.monotonic() - began


def test_the_time_that_a_request_waits_for_a_thread_is_in_its_deadline(tmp_path):
    service, fault, *_ = held_service(tmp_path, threads=1)
    with served(service) as url:
        first = threading.Thread(target=asked, args=(url,), kwargs={"query": "up"})
        first.start()
        assert fault.waiting.acquire(timeout=60)
        status, body, took_s = asked(url, query="1", timeout="300ms")
        fault.release()
        first.join()
        after = asked(url, query="1")

    assert (status, body["errorType"]) == (503, "timeout")
    assert 0.3 <= took_s < 20
    assert after[0] == 200


def test_a_query_that_waits_for_storage_ends_at_its_deadline(tmp_path):
    service, fault, *_ = held_service(tmp_path, threads=4)
    with served(service) as url:
        status, body, took_s = asked(url, query="up", timeout="300ms", time=START / 1000)
        still_held = bool(fault.held)
        fault.release()

    assert (status, body["errorType"]) == (503, "timeout")
    assert still_held
    assert took_s < 20


def test_a_form_that_does_not_come_whole_is_no_longer_waited_for(tmp_path):
    service, fault, *_ = held_service(tmp_path, threads=1, timeout_s=0.5)
    fault.release()
    with served(service) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.putrequest("POST", "/api/v1/query")
        connection.putheader("Content-Type", "application/x-www-form-urlencoded")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"query=")
        response = connection.getresponse()
        body = json.load(response)
        connection.close()

    assert (response.status, body["errorType"]) == (503, "timeout")
    assert "did not come whole" in body["error"]


@pytest.mark.parametrize("path", ["query", "format_query", "parse_query"])
def test_a_text_that_takes_long_to_parse_is_answered_at_its_deadline(tmp_path, path):
    service, fault, *_ = held_service(tmp_path, threads=2)
    fault.release()
    form = urllib.parse.urlencode({"query": "+".join(["1"] * 300_000), "timeout": "200ms"}).encode()
    with served(service) as url:
        began = time.monotonic()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/api/v1/{path}", form, timeout=60)
        took_s = time.monotonic() - began

    assert refused.value.code == 503
    assert json.load(refused.value)["errorType"] == "timeout"
    assert took_s < 5


def test_reads_of_queries_do_not_keep_the_follower_waiting(tmp_path):
    service, fault, tables, followed = held_service(tmp_path, threads=16)
    with served(service) as url:
        waiting = [
            threading.Thread(
                target=asked, args=(url,), kwargs={"query": "up", "time": START / 1000}
            )
            for _ in range(12)
        ]
        for thread in waiting:
            thread.start()
        assert fault.waiting.acquire(timeout=60)

        put(tables, START + 1)
        settle(followed)
        seen = samples(followed.view)

        assert fault.held
        fault.release()
        for thread in waiting:
            thread.join()

    assert seen["h1"] == [(START, 1.0), (START + 1, 1.0)]


def test_a_deadline_that_has_passed_ends_a_query_before_it_begins(day):
    late = Options(deadline_s=time.monotonic() - 1)
    decoded = day.row_groups.decoded

    with pytest.raises(QueryTimeoutError):
        evaluate(day, "sum_over_time(busy[1d])", START + DAY_MS, late)

    assert day.row_groups.decoded == decoded
