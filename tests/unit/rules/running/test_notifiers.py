"""Alerts on their way to notifiers, over HTTP to a server of the test's."""

import datetime as dt
import json
import socket
import threading

from pytest_httpserver import HTTPServer
from werkzeug import Response

from varve.model.clock import ManualClock
from varve.rules.alerts import Sent
from varve.rules.label_sets import labels_of
from varve.rules.rule_file import parse_rule_file
from varve.rules.running.notifiers import PATH, Notifiers
from varve.telemetry.metrics import RulesMetrics
from varve.telemetry.registry import Telemetry

(GROUP,) = parse_rule_file("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]", "f")
RULE = GROUP.rules[0]
CLOCK = ManualClock(0)


def sent(name: str, ends_ms: int = 4_000) -> tuple:
    labels = labels_of({"alertname": "A", "name": name})
    return RULE, Sent(labels, {"summary": "s"}, 1_500, ends_ms)


def notifiers(*urls: str) -> Notifiers:
    return Notifiers(
        urls,
        external_labels={"region": "eu", "name": "overridden"},
        external_url="http://v/",
        metrics=RulesMetrics(Telemetry()),
        now_ms=lambda: CLOCK.at_ms,
    )


def test_an_alert_is_told_in_the_form_of_api_v2(httpserver: HTTPServer):
    httpserver.expect_request(PATH, method="POST").respond_with_data("")
    told = notifiers(httpserver.url_for(""))
    told.start()

    told.put(0, [sent("a")])
    told.stop(10)

    ((request, _),) = httpserver.log
    assert json.loads(request.data) == [
        {
            "labels": {"alertname": "A", "name": "a", "region": "eu"},
            "annotations": {"summary": "s"},
            "startsAt": "1970-01-01T00:00:01.5Z",
            "endsAt": "1970-01-01T00:00:04Z",
            "generatorURL": "http://v/graph?g0.expr=m%20%3E%200&g0.tab=1",
        }
    ]


def test_a_notifier_that_is_away_is_told_the_newest_of_each_alert_once_it_is_back(
    httpserver: HTTPServer,
):
    away, got, calls = threading.Event(), [], threading.Semaphore(0)
    away.set()

    def answer(request):
        calls.release()
        if away.is_set():
            return Response(status=503)
        got.extend(json.loads(request.data))
        return Response(status=200)

    httpserver.expect_request(PATH).respond_with_handler(answer)
    told = notifiers(httpserver.url_for(""))
    told.start()
    told.put(0, [sent("a"), sent("b")])
    assert calls.acquire(timeout=10)

    told.put(0, [sent("a", 9_000)])
    away.clear()
    assert calls.acquire(timeout=10)
    told.stop(10)

    assert sorted((one["labels"]["name"], one["endsAt"]) for one in got) == [
        ("a", "1970-01-01T00:00:09Z"),
        ("b", "1970-01-01T00:00:04Z"),
    ]


def test_one_that_hangs_does_not_hold_up_another(httpserver: HTTPServer):
    httpserver.expect_request(PATH).respond_with_data("")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers none
        told = notifiers(f"http://127.0.0.1:{silent.getsockname()[1]}", httpserver.url_for(""))
        told.start()

        told.put(0, [sent("a")])
        told._queues[1].ask_to_stop()
        told._queues[1].join(10)

        assert len(httpserver.log) == 1


def test_what_finds_no_room_is_counted(monkeypatch):
    monkeypatch.setattr("varve.rules.running.notifiers.MOST_WAITING", 3)
    told = notifiers("http://127.0.0.1:9")

    told.put(0, [sent(name) for name in "abcde"])

    waiting = told._queues[0]._waiting
    assert [dict(labels)["name"] for labels in waiting] == ["c", "d", "e"]


class NotedNotifiers(Notifiers):
    """Notes what would go to the queues."""

    def __init__(self) -> None:
        super().__init__(
            [],
            external_labels={},
            external_url="http://v/",
            metrics=RulesMetrics(Telemetry()),
            now_ms=lambda: CLOCK.at_ms,
        )
        self.ends: dict[str, list[float]] = {}

    def _queue(self, ready) -> None:
        for one in ready:
            ends_s = dt.datetime.fromisoformat(one.alert["endsAt"]).timestamp()
            self.ends.setdefault(dict(one.labels)["name"], []).append(ends_s)


def test_what_fires_is_told_on_while_nothing_can_be_evaluated_and_not_for_ever():
    told = NotedNotifiers()
    CLOCK.at_ms = 0
    told.put(0, [sent("fires", 240_000), sent("over", 240_000)])
    CLOCK.at_ms = 30_000
    told.put(0, [sent("over", 30_000), sent("younger", 270_000)])
    for seconds in range(30, 4_500, 5):  # the tables are away
        CLOCK.at_ms = seconds * 1000
        told.hold(every_ms=60_000, most_ms=3_600_000)

    assert told.ends["over"] == [240, 30]
    for name, began_s in (("fires", 0), ("younger", 30)):
        assert told.ends[name] == list(range(began_s + 240, began_s + 3_600 + 241, 60))


def test_who_leaves_a_shard_and_gets_it_again_tells_on_nothing_of_before():
    told = NotedNotifiers()
    CLOCK.at_ms = 0
    told.put(0, [sent("mine", 240_000)])
    told.put(1, [sent("left", 240_000)])

    told.keep({0})  # another process has shard 1, and tells that the alert is over
    told.keep({0, 1})
    CLOCK.at_ms = 60_000  # here again, it waits for the tables
    told.hold(every_ms=60_000, most_ms=3_600_000)

    assert told.ends == {"mine": [240, 300], "left": [240]}


def test_what_waits_for_a_notifier_is_not_told_once_another_process_has_its_shard(
    httpserver: HTTPServer,
):
    """Neither what was not sent yet nor what is being tried."""
    trying, answering, heard, got = *(threading.Event() for _ in range(3)), []

    def answer(request):
        if not trying.is_set():
            trying.set()
            assert answering.wait(10)
            return Response(status=503)
        got.extend(one["labels"]["name"] for one in json.loads(request.data))
        heard.set()
        return Response(status=200)

    httpserver.expect_request(PATH).respond_with_handler(answer)
    told = notifiers(httpserver.url_for(""))
    told.start()
    told.put(1, [sent("tried")])
    assert trying.wait(10)
    told.put(1, [sent("waiting")])
    told.keep({0})
    told.put(0, [sent("kept")])
    answering.set()
    assert heard.wait(10)
    told.stop(10)

    assert got == ["kept"]
