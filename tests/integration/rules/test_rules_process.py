"""`varve serve rules` against a real broker, real tables and a notifier: what comes by the topic
alerts, and when its files change.
"""

import itertools
import json
import re
import signal
import threading
import time
import uuid

import pytest
from kafka import KafkaAdminClient

from tests.integration.rules.rules_process import IngestedTables, RulesProcess, await_that
from tests.integration.test_notify import Process as Notifier
from tests.integration.test_notify import Receiver
from tests.stepped_clock import CAN_BUILD, SteppedClock
from tests.unit.rules.running.test_predictive import DISK, LOAD, deviate, forecast, judge_capacity
from varve.kafka.alert_topic import send_alerts
from varve.kafka.client_options import Cluster
from varve.kafka.topic_sender import send_messages
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.alert_event import AlertEvent
from varve.model.resources import conf_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = pytest.mark.kafka

NOTIFY = """
route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}
receivers: [{name: hook, webhook_configs: [{url: '%s'}]}]
"""
RULES = """
groups:
- name: g
  interval: 1s
  rules: [{{alert: Hot, expr: kiln > 5}}, {{alert: {}, expr: kiln > 100}}]
"""

PREDICTIVE = (conf_dir() / "predictive-alerts.yml").read_text()
FORECAST_RULE = """
  - name: forecast
    interval: 3s
    rules:
      - alert: WillBeFull
        expr: varve_forecast{quantile="0.9"} offset -3d > 70
"""


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def notifier(tmp_path, receiver):
    (tmp_path / "am.yml").write_text(NOTIFY % receiver.url)
    process = Notifier(tmp_path)
    yield process
    process.kill()


@pytest.fixture
def topics(kafka_broker):
    """Settings of topics that nobody else has."""
    name = uuid.uuid4().hex
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    found = {"RAW": f"raw-{name}", "ALERTS": f"alerts-{name}"}
    ensure_topics(admin, [TopicPlan(topic, 2) for topic in found.values()])
    admin.close()
    return {f"KAFKA__TOPICS__{key}": topic for key, topic in found.items()}


@pytest.fixture
def tables(tmp_path):
    """Tables whose data is complete up to now, until the test is over."""
    tables, over = IngestedTables(str(tmp_path / "tables")), threading.Event()
    tables.kiln, tables.there = 1.0, threading.Lock()

    def ingest():
        while not over.wait(0.5):
            with tables.there:
                tables.ingest(kiln=tables.kiln)

    thread = threading.Thread(target=ingest)
    thread.start()
    yield tables
    over.set()
    thread.join()


@pytest.fixture
def clock(tmp_path):
    """The wall clock of the rules service; None where it cannot be had."""
    return SteppedClock(tmp_path) if CAN_BUILD else None


@pytest.fixture
def rules(request, tmp_path, kafka_broker, topics, tables, notifier, clock):
    (tmp_path / "rules.yml").write_text(
        "groups: [{name: g, interval: 1s, rules: [{alert: Hot, expr: kiln > 5}]}]"
    )
    process = RulesProcess(
        tmp_path / "home",
        kafka_broker.bootstrap_servers,
        str(tmp_path / "tables"),
        {} if clock is None else clock.environment,
        RULES__FILES=tmp_path / "rules.yml",
        RULES__NOTIFIERS=f"http://{notifier.address}",
        RULES__RESEND_DELAY_S=getattr(request, "param", 60),
        **topics,
    )
    yield process
    if process.process.poll() is None:
        process.kill()


def test_rules_as_shipped_warn_by_what_is_forecast_and_judged(rules, receiver, tables, tmp_path):
    now_ms = int(time.time() * 1000)
    hour_ms, minute_ms = now_ms - now_ms % 3_600_000, now_ms - now_ms % 60_000
    store = tables.written.store
    with tables.there:
        tables.written.define([DISK, LOAD])
    judge_capacity(store, hour_ms, now_ms + 2 * 86_400_000, 0.9)
    forecast(store, hour_ms)
    # Some minutes that are yet to come, so that nine of ten deviate however late it starts.
    deviate(store, minute_ms - 10 * 60_000, 20)

    text = PREDICTIVE.replace("interval: 1m", "interval: 3s")
    (tmp_path / "rules.yml").write_text(text + FORECAST_RULE)
    await_that(lambda: rules.get("/-/reload", "POST")[0] == 200, rules.said)

    def told():
        return {
            (alert["labels"]["alertname"], alert["labels"].get("metric"))
            for message in receiver.messages
            for alert in message["alerts"]
            if alert["status"] == "firing"
        }

    expected = {
        ("RunsOutInThreeDays", DISK.metric),
        ("StaysUnusual", LOAD.metric),
        ("WillBeFull", DISK.metric),
    }
    await_that(lambda: told() == expected, lambda: f"{told()} {rules.get('/-/ready')}")


def test_alerts_of_other_jobs_are_told_and_their_ends_whoever_dies(
    rules, receiver, kafka_broker, topics, tables
):
    cluster, topic = Cluster(kafka_broker.bootstrap_servers), topics["KAFKA__TOPICS__ALERTS"]

    def say(state: str, *names: str) -> list[AlertEvent]:
        now_ms = int(time.time() * 1000)
        events = [
            AlertEvent({"alertname": "SeriesDeviates", "instance": name}, state, now_ms, now_ms)
            for name in names
        ]
        send_alerts(cluster, topic, events)
        return events

    first = say("firing", "a")  # before anybody reads
    await_that(lambda: receiver.told() == [("firing", ["a"])], rules.said)
    send_messages(cluster, topic, [(b"k", b"no event")], client_id="test")
    send_alerts(cluster, topic, first)  # again
    rules.kill()
    say("firing", "b")
    rules.start()
    await_that(lambda: ("firing", ["a", "b"]) in receiver.told(), rules.said)
    say("resolved", "a", "b")
    await_that(lambda: receiver.told()[-1] == ("resolved", ["a", "b"]), rules.said)

    await_that(lambda: 'job_events_total{outcome="refused"} 1' in rules.get("/metrics")[1])
    assert rules.stop() == 0
    assert [status for status, _ in receiver.told()].count("resolved") == 1
    assert receiver.messages[0]["alerts"][0]["generatorURL"].endswith("/anomalies")
    rows = snapshot(tables.written.store, "alerts").scan(Bounds()).to_pylist()
    found = sorted((dict(row["labels"])["instance"], row["state"]) for row in rows)
    assert found == list(itertools.product("ab", ["firing", "resolved"]))


def test_rules_are_read_again_when_asked_and_a_bad_file_leaves_the_old_ones(
    rules, receiver, tables, tmp_path
):
    def names() -> list[str]:
        _, body = rules.get("/api/v1/rules")
        groups = json.loads(body or "{}").get("data", {}).get("groups", [])
        return [rule["name"] for group in groups for rule in group["rules"]]

    def began() -> list[str]:
        return [a["activeAt"] for a in json.loads(rules.get("/api/v1/alerts")[1])["data"]["alerts"]]

    def is_ok() -> bool:
        return "\nvarve_rules_files_ok 1" in rules.get("/metrics")[1]

    file = tmp_path / "rules.yml"
    tables.kiln = 9.0
    await_that(lambda: names() == ["Hot"] and receiver.messages, rules.said)
    since = began()

    file.write_text("groups: [{name: g, rules: [{alert: X, expr: 'kiln >'}]}]")
    status, why = rules.get("/-/reload", "POST")
    assert (status, "rules.yml:1" in why, names(), is_ok()) == (500, True, ["Hot"], False)
    rules.process.send_signal(signal.SIGHUP)
    await_that(lambda: rules.said().count("the rules stay as they were") >= 2, rules.said)

    file.write_text(RULES.format("A"))
    assert rules.get("/-/reload", "POST")[0] == 200
    await_that(lambda: names() == ["Hot", "A"] and is_ok(), rules.said)
    file.write_text(RULES.format("B"))
    rules.process.send_signal(signal.SIGHUP)
    await_that(lambda: names() == ["Hot", "B"], rules.said)
    file.write_text(RULES.format("C"))  # it is looked at by itself
    await_that(lambda: names() == ["Hot", "C"], rules.said)
    assert began() == since
    assert len(receiver.messages) == 1
    assert rules.stop() == 0


@pytest.mark.parametrize("rules", [1], indirect=True)
def test_what_fires_does_not_end_while_the_tables_are_away_or_the_clock_is_wrong(
    rules, receiver, tables, tmp_path, clock
):
    def await_sendings() -> None:
        """Each is told again every two seconds, its end four seconds ahead."""
        sent = sent_alerts(rules)
        await_that(lambda: sent_alerts(rules) >= sent + 3, rules.said)

    tables.kiln = 9.0
    await_that(lambda: receiver.messages, rules.said)
    for hours in (1, -1, 0) if clock else ():
        clock.step(3_600 * hours)
        await_sendings()
    with tables.there:
        (tmp_path / "tables").rename(tmp_path / "away")
        await_sendings()
        (tmp_path / "away").rename(tmp_path / "tables")
    await_that(lambda: rules.get("/-/ready")[0] == 200, rules.said)
    assert [m["status"] for m in receiver.messages] == ["firing"]
    tables.kiln = 1.0
    await_that(lambda: receiver.messages[-1]["status"] == "resolved", rules.said)
    page = rules.get("/metrics")[1]
    assert "varve_rules_skipped_slots_total 0.0" in page
    assert re.search(r'evaluated_slots_total{part="all"} [1-9]', page), "with all of its data"


def sent_alerts(rules: RulesProcess) -> float:
    """How many alerts the notifier has taken."""
    (line,) = re.findall(r"(?m)^varve_rules_sent_alerts_total{.*} (.*)$", rules.get("/metrics")[1])
    return float(line)
