"""The pages of episodes and capacity in a real browser: they draw what jobs have found."""

from __future__ import annotations

import time

import pytest

from tests.integration.api_service import served, service_over
from tests.integration.judged_home import LATENCY, made
from tests.integration.test_page import browser, drawn_pixels, pytestmark, wait_for  # noqa: F401
from varve.anomaly.labels import labels

MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return made(str(tmp_path_factory.mktemp("tables")), int(time.time() * 1000))


@pytest.fixture(scope="module")
def address(home):
    tables, end_ms = home
    with served(service_over(tables, now_ms=end_ms)) as url:
        yield url


def no_errors(browser):  # noqa: F811
    severe = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    return [e for e in severe if "favicon" not in e["message"]] == []


def test_an_incident_is_on_the_timeline_with_its_value_and_what_was_expected(
    home,
    address,
    browser,  # noqa: F811
):
    _, end_ms = home
    browser.get(f"{address}/anomalies?range=1d")
    wait_for(browser, "document.querySelectorAll('.track button').length > 0")
    found = browser.execute_script("return window.varve.episodes()")
    slow = [e for e in found if e["metric"] == LATENCY.metric]
    failing = [e for e in found if e["metric"] == "shop_orders_total"]
    (incident,) = [e for e in slow if e["windows"] > 30]
    assert abs(incident["starts_at"] - (end_ms - 5 * HOUR)) <= 2 * MINUTE
    assert len(failing) == 1
    assert failing[0]["is_rate"]

    bar = f".track button[data-episode='{incident['episode_id']}']"
    browser.find_element("css selector", bar).click()
    wait_for(browser, f"window.varve.drawn?.episode === '{incident['episode_id']}'")

    drawn = browser.execute_script("return window.varve.drawn")
    known = [
        (value, mean, stddev)
        for value, mean, stddev in zip(drawn["value"], drawn["mean"], drawn["stddev"], strict=True)
        if None not in (value, mean, stddev)
    ]
    assert len(known) > 200
    far = sum(value > mean + 3 * stddev for value, mean, stddev in known)
    assert 50 <= far <= 70, "the hour of the incident is above the band, and nothing else"
    assert drawn_pixels(browser) > 1_000
    assert no_errors(browser)


def test_what_is_said_of_an_episode_on_the_page_is_in_the_table(home, address, browser):  # noqa: F811
    tables, _ = home
    browser.get(f"{address}/anomalies?range=1d")
    wait_for(browser, "document.querySelectorAll('#list tbody tr').length > 0")
    browser.find_element("css selector", "#list tbody tr").click()
    wait_for(browser, "document.querySelectorAll('#feedback button').length === 2")

    browser.find_element("css selector", "#feedback button[data-value='expected']").click()
    pressed = "document.querySelector('#feedback [data-value=expected]').ariaPressed === 'true'"
    wait_for(browser, pressed)

    chosen = browser.execute_script("return window.varve.chosen()")
    assert labels(tables.store) == {chosen: "expected"}
    browser.find_element("css selector", "#feedback button[data-value='real']").click()
    wait_for(browser, pressed.replace("expected", "real"))
    assert labels(tables.store) == {chosen: "real"}
    assert no_errors(browser)


def test_resources_are_ranked_by_days_left_and_drawn_with_their_forecast(
    home,
    address,
    browser,  # noqa: F811
):
    browser.get(f"{address}/capacity")
    wait_for(browser, "window.varve?.drawn")
    (line,) = browser.execute_script("return window.varve.lines()")
    assert line["state"] == "firing"
    # 70 GB are used, 5 a day come: four days are left of 90.
    assert line["days_left"] == pytest.approx(4, abs=0.5)
    drawn = browser.execute_script("return window.varve.drawn")
    ahead = [v for v in drawn["middle"] if v is not None]
    assert max(ahead) > 90e9
    assert all(
        low <= middle <= high
        for low, middle, high in zip(drawn["low"], drawn["middle"], drawn["high"], strict=True)
        if middle is not None
    )
    assert drawn_pixels(browser) > 1_000
    said = browser.find_element("css selector", "#list tbody tr").text
    assert f"{line['days_left']:.1f} days" in said
    assert no_errors(browser)
