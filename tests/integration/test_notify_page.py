"""The notifier's page in a real browser: alerts, and a silence made from one."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.integration.test_notify import Receiver, await_that, running
from tests.integration.test_page import browser, pytestmark, wait_for  # noqa: F401 - fixtures

EVIL = "<img src=x onerror=\"document.title='evil'\">"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_an_alert_is_shown_as_text_and_silenced_from_there(tmp_path, receiver, browser):  # noqa: F811
    with running(tmp_path, receiver, wait="1h") as process:
        process.send(EVIL, severity="page")
        process.send("b")
        browser.get(f"http://{process.address}/#/alerts?receiver=pager")
        wait_for(browser, "document.querySelectorAll('article').length === 1")
        assert EVIL in browser.find_element(By.CSS_SELECTOR, "article").text
        assert browser.title == "Alerts · Varve"
        browser.find_element(By.ID, "filter").send_keys("severity!=page", Keys.ENTER)
        wait_for(browser, "document.querySelectorAll('article').length === 0")
        browser.get(f"http://{process.address}/#/alerts?receiver=pager&filter=severity%3Dpage")
        wait_for(browser, "document.querySelectorAll('article').length === 1")

        browser.find_element(By.CSS_SELECTOR, "article button").click()
        wait_for(browser, "document.getElementById('preview').textContent.includes('1 of')")
        browser.find_element(By.ID, "author").send_keys("me")
        browser.find_element(By.ID, "comment").send_keys("why")
        browser.find_element(By.ID, "make").click()

        wait_for(browser, "document.querySelector('#silences').innerText.includes('me: why')")
        wait_for(browser, "document.querySelectorAll('article').length === 0")
        (silence,) = process.client.get("/api/v2/silences").json()
        values = {m["name"]: m["value"] for m in silence["matchers"]}
        assert values == {"alertname": "Down", "instance": EVIL, "severity": "page"}

        browser.find_element(By.CSS_SELECTOR, "#silences button").click()
        wait_for(browser, "document.querySelectorAll('article').length === 1")
        errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert [e for e in errors if "favicon" not in e["message"]] == []


def test_a_receiver_that_takes_nothing_is_shown(tmp_path, receiver, browser):  # noqa: F811
    receiver.status = 500
    with running(tmp_path, receiver) as process:
        process.send("a")
        await_that(lambda: process.client.get("/api/v1/oncall").json()["failing"])
        browser.get(f"http://{process.address}/")
        shown = "document.getElementById('failing').innerText"
        wait_for(browser, f"{shown}.startsWith('team, webhook[0], takes nothing since')")


def test_an_alert_is_acknowledged_from_the_page(tmp_path, receiver, browser):  # noqa: F811
    with running(tmp_path, receiver, wait="1h") as process:
        process.send(EVIL, severity="page")
        process.send("b")
        browser.get(f"http://{process.address}/#/alerts?receiver=pager")
        wait_for(browser, "document.querySelectorAll('article button').length === 2")

        browser.find_elements(By.CSS_SELECTOR, "article button")[1].click()
        browser.switch_to.alert.send_keys("anna")
        browser.switch_to.alert.accept()

        wait_for(browser, "document.querySelector('article').innerText.includes('anna takes care')")
        (one,) = process.client.get("/api/v1/oncall").json()["acknowledged"]
        assert one["by"] == "anna"
        assert one["labels"]["instance"] == EVIL


def test_a_link_in_a_message_acknowledges_once_it_is_confirmed(tmp_path, receiver, browser):  # noqa: F811
    (tmp_path / "ack.key").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "oncall.yml").write_text("acknowledge_links: {key_file: ack.key}")
    with running(tmp_path, receiver, f"--oncall.file={tmp_path / 'oncall.yml'}") as process:
        process.send(EVIL)
        await_that(lambda: receiver.messages)
        link = receiver.messages[0]["alerts"][0]["acknowledgeURL"]

        browser.get(link)
        assert EVIL in browser.find_element(By.CSS_SELECTOR, "li").text
        assert process.client.get("/api/v1/oncall").json()["acknowledged"] == []

        browser.find_element(By.CSS_SELECTOR, "button").click()
        wait_for(browser, "document.querySelector('h1').innerText === '1 alert acknowledged'")
        (one,) = process.client.get("/api/v1/oncall").json()["acknowledged"]
        assert (one["by"], one["labels"]["instance"]) == ("team", EVIL)

        browser.get(link.replace("by=team", "by=boss"))
        wait_for(browser, "document.querySelector('h1').innerText.includes('cannot be used')")
