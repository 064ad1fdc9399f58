"""Which requests are answered on the event loop: those like which one was brief."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tests.integration.api_service import fill, service_over
from tests.tables import WrittenTables
from varve.api import brief_answers, runner
from varve.api.brief_answers import BriefAnswers
from varve.api.call import Answer
from varve.api.endpoint import METADATA, QUERIES, Endpoint
from varve.promql.errors import QueryTimeoutError, StorageError
from varve.query.view import FileGone

DEADLINE_S = 60


@dataclass
class Function:
    """Answers as it is told to: `behaves` gets the call, and whether it is on the event loop."""

    behaves: object = None
    on_loop: list[bool] = field(default_factory=list)

    def __call__(self, call):
        on_loop = threading.current_thread() is threading.main_thread()
        self.on_loop.append(on_loop)
        if self.behaves is not None:
            self.behaves(call, on_loop)
        return Answer({"seen": len(self.on_loop)})


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """The same with bounds that hold on a busy machine."""
    for module, name, seconds in (
        (brief_answers, "BRIEF_S", 3.0),
        (runner, "PATIENCE_S", 1.0),
        (runner, "MISSED_S", 100.0),
    ):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("once") / "tables"))
    fill(tables, days=0.1)
    return service_over(tables)


def asked(service, function, requests, *, reads_only_the_view=True, pool=QUERIES):
    """The responses to requests, one after the other, or beside each other where they are lists."""
    endpoint = Endpoint(
        "query", function, "query", "a test", pool=pool, reads_only_the_view=reads_only_the_view
    )
    app = Starlette(routes=[Route(endpoint.address, runner.Runner(service).handler(endpoint))])

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://testserver", timeout=DEADLINE_S
        ) as client:
            found = []
            for each in requests:
                group = each if isinstance(each, list) else [each]
                found += await asyncio.gather(
                    *(client.get("/api/v1/query", params=params) for params in group)
                )
            return found

    return asyncio.run(run())


@pytest.mark.parametrize("pool", [QUERIES, METADATA])
def test_what_was_brief_is_answered_at_once_and_the_first_in_a_thread(service, pool):
    function = Function()
    shown = [{"query": "up", "start": i, "end": i + 60} for i in range(3)]
    found = asked(service, function, shown, pool=pool)
    assert [response.status_code for response in found] == [200] * 3
    assert function.on_loop == [False, True, True]


def test_another_query_range_or_snapshot_is_another_answer(service):
    """What may be sampled is never answered so: it would be sampled after 20 ms."""
    function = Function()
    token = service.view().provenance.token
    shown = [
        {"query": "up", "start": 0, "end": 60},
        {"query": "up", "start": 0, "end": 7200},
        {"query": "down", "start": 0, "end": 60},
        *[{"query": "up", "start": 0, "end": 60, "as_of": token}] * 2,
        *[{"query": "up", "start": 0, "end": 60, "degrade": "sample"}] * 2,
    ]
    assert [r.status_code for r in asked(service, function, shown)] == [200] * 7
    assert function.on_loop == [False] * 7


def test_an_endpoint_that_asks_others_stays_in_its_thread(service):
    function = Function()
    asked(service, function, [{"query": "up"}] * 3, reads_only_the_view=False)
    assert function.on_loop == [False] * 3


def test_what_takes_longer_this_time_is_given_to_a_thread_and_stays_there_a_while(service):
    """It is ended on the loop where it looks whether it has to, as a query in a thread is."""

    def slow_once(call, on_loop):
        until = time.monotonic() + DEADLINE_S
        while on_loop and len(function.on_loop) == 2 and time.monotonic() < until:
            call.options.check_running()

    function = Function(slow_once)
    found = asked(service, function, [{"query": "up"}] * 5)
    assert [response.json()["data"]["seen"] for response in found] == [1, 3, 4, 5, 6]
    assert function.on_loop == [False, True, False, False, False, False]


def test_what_was_slow_once_is_brief_again_after_some_answers():
    known = BriefAnswers()
    for took_s, brief in [(1, True), (100, False), *[(1, False)] * 5, (1, True)]:
        known.learn(("query",), took_s)
        assert known.expects(("query",)) is brief


def test_a_file_that_is_gone_is_looked_for_again_in_a_thread(service):
    """A newer view is waited for there, if there is one."""

    def gone_at_once(_call, on_loop):
        if on_loop:
            raise FileGone("samples/a.parquet is gone")

    function = Function(gone_at_once)
    found = asked(service, function, [{"query": "up"}] * 2)
    assert [response.status_code for response in found] == [200, 200]
    assert function.on_loop == [False, True, False]


@pytest.mark.parametrize(
    ("raised", "status"), [(StorageError("away"), 422), (RuntimeError("a defect"), 500)]
)
def test_what_fails_at_once_is_said_and_leaves_its_place(service, raised, status):
    def fails(_call, on_loop):
        if on_loop and len(function.on_loop) == 2:
            raise raised

    function = Function(fails)
    found = asked(service, function, [{"query": "up"}] * 9)
    assert [response.status_code for response in found] == [200, status, *[200] * 7]
    assert function.on_loop == [False, True, *[False] * 6, True]


def test_beside_a_long_answer_it_is_answered_at_once(service):
    """In a thread it would have to wait for the interpreter once more, and so would its answer."""
    began, second = threading.Event(), threading.Event()

    def waits_for_the_second(call, on_loop):
        if call.parameters.get("query") == "long":
            began.set()
            assert second.wait(DEADLINE_S)
        elif on_loop:
            assert began.wait(DEADLINE_S)  # its thread needs the loop no more
            second.set()

    function = Function(waits_for_the_second)
    found = asked(service, function, [{"query": "up"}, [{"query": "long"}, {"query": "up"}]])
    assert [response.status_code for response in found] == [200] * 3
    assert function.on_loop.count(True) == 1


def test_on_the_event_loop_nobody_is_given_way_to(service, monkeypatch):
    def fails(_):
        raise AssertionError("the event loop waited")

    def looks(call, on_loop):
        if on_loop:
            monkeypatch.setattr(runner.Turn, "give_way", fails)
            call.options.check_running()

    function = Function(looks)
    found = asked(service, function, [{"query": "up"}] * 2)
    assert [response.status_code for response in found] == [200] * 2
    assert function.on_loop == [False, True]


def test_what_waited_for_files_is_not_brief_and_what_waited_for_others_is():
    """By the clocks of a thread: CPU seconds, and those that have passed."""
    watch = brief_answers.Stopwatch()
    watch._cpu_s -= 0.002
    watch._elapsed_s -= 0.004
    assert watch.took_s() < 0.004
    watch._elapsed_s -= 0.05
    assert watch.took_s() > 0.05


def test_a_deadline_that_has_passed_is_the_answer(service):
    def out_of_time(_call, _on_loop):
        if len(function.on_loop) > 1:
            raise QueryTimeoutError

    function = Function(out_of_time)
    found = asked(service, function, [{"query": "up"}, {"query": "up", "timeout": "0.001"}])
    assert found[1].json()["errorType"] == "timeout"
    assert len(function.on_loop) <= 2
