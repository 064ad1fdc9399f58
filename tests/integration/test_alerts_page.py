"""The history of alerts, over HTTP and as a page, and links that lead there."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pytest
from selenium.webdriver.common.by import By
from starlette.testclient import TestClient

from tests.integration.api_service import app_over, served, service_over
from tests.integration.test_notify import Receiver, rfc3339, running
from tests.integration.test_page import browser, pytestmark, wait_for  # noqa: F401 - fixtures
from tests.tables import WrittenTables
from varve.model.alert_event import AlertEvent
from varve.model.schema import table_schema
from varve.rules.running.job_events import event_row
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

MINUTE_MS = 60_000
EVIL = "<img src=x onerror=\"document.title='evil'\">"
DOWN = {"alertname": "Down", "instance": EVIL, "job": "node"}


def row(labels: dict, state: str, at_ms: int, starts_ms: int, **others: object) -> dict:
    event = AlertEvent(labels, state, starts_ms, at_ms, {"summary": "it is down"}, 1.0)
    made = event_row(json.dumps(json.loads(event.message())).encode())
    assert made is not None
    return made | {"rule_group": "rules.yml;g", "incomplete": False, "late": False} | others


@pytest.fixture(scope="module")
def now_ms():
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def tables(tmp_path_factory, now_ms):
    """Down fired for ten minutes and fires again; an alert of a job ended; another was pending."""
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))

    def ago(minutes: float) -> int:
        return now_ms - round(minutes * MINUTE_MS)

    job = {"alertname": "CapacityRunsOut", "metric": "disk", "host": "a"}
    other = {"alertname": "Slow", "job": "shop"}
    rows = [
        row(DOWN, "pending", ago(65), ago(65)),
        row(DOWN, "firing", ago(60), ago(65), incomplete=True),
        row(DOWN, "firing", ago(60), ago(65), review="same", event_id="review"),
        row(DOWN, "resolved", ago(50), ago(65), ends_at=ago(50)),
        row(DOWN, "pending", ago(9), ago(9)),
        row(DOWN, "firing", ago(4), ago(9), late=True),
        row(job, "firing", ago(40), ago(40), rule_group=None),
        row(job, "resolved", ago(30), ago(40), rule_group=None),
        row(other, "pending", ago(20), ago(20)),
        row(other, "inactive", ago(19), ago(20), ends_at=ago(19)),
    ]
    file = write_file(
        tables.store, "alerts", pa.Table.from_pylist(rows, table_schema("alerts").arrow)
    )
    commit(Table(tables.store, "alerts"), [file], transactions={"rules:0": Step(None, 0)})
    return tables


def test_changes_are_answered_newest_first_of_alerts_that_are_asked_for(tables, now_ms):
    with TestClient(app_over(tables, now_ms=now_ms)) as client:

        def history(**asked: object) -> list[tuple[str, str]]:
            answer = client.get("/api/v1/alerts/history", params=asked)
            assert answer.status_code == 200, answer.text
            return [(one["labels"]["alertname"], one["state"]) for one in answer.json()["data"]]

        assert len(history()) == 10
        assert history(limit=3) == [("Down", "firing"), ("Down", "pending"), ("Slow", "inactive")]
        assert [state for _, state in history(**{"match[]": '{alertname=~"Capac.*"}'})] == [
            "resolved",
            "firing",
        ]
        assert history(**{"match[]": f"{{instance={json.dumps(EVIL)}}}", "limit": 1}) == [
            ("Down", "firing")
        ]
        at_s = (now_ms - 20 * MINUTE_MS) / 1000
        assert history(start=at_s, end=at_s) == [("Slow", "pending")]
        assert client.get("/api/v1/alerts/history?match[]={a=").status_code == 400


def test_where_no_rule_was_evaluated_there_is_no_history(tmp_path):
    with TestClient(app_over(WrittenTables(str(tmp_path)))) as client:
        assert client.get("/api/v1/alerts/history").json()["data"] == []


def test_a_link_from_the_notifier_leads_to_the_history_of_the_alert(
    tables,
    now_ms,
    tmp_path,
    browser,  # noqa: F811
):
    receiver = Receiver()
    with (
        served(service_over(tables, now_ms=now_ms)) as url,
        running(tmp_path, receiver, wait="1h") as process,
    ):
        alert = {
            "labels": DOWN,
            "startsAt": rfc3339(time.time() - 60),
            "generatorURL": f"{url}/graph?g0.expr=up",
        }
        process.client.post("/api/v2/alerts", json=[alert])
        browser.get(f"http://{process.address}/")
        wait_for(browser, "document.querySelectorAll('article').length === 1")
        browser.find_element(By.LINK_TEXT, "History").click()
        wait_for(browser, "document.querySelectorAll('#changes tbody tr').length === 2")
        browser.find_element(By.CSS_SELECTOR, "#list tbody tr:nth-child(2)").click()
        wait_for(browser, "document.querySelectorAll('#changes tbody tr').length === 4")
        shown = browser.find_element(By.CSS_SELECTOR, "main").text
        browser.find_element(By.ID, "all").click()
        wait_for(browser, "document.querySelectorAll('#list tbody tr').length === 4")
        counts = browser.find_element(By.ID, "counts").text
        title = browser.title
        errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    receiver.close()

    assert EVIL.replace('"', "'")[:10] in shown.replace('"', "'")
    assert "with all of its data: the same" in shown
    assert "before all of its data was there" in shown
    assert "10 min" in shown
    assert (counts, title) == ("1 firing, 4 in all", "Alerts · Varve")
    assert [e for e in errors if "favicon" not in e["message"]] == []
