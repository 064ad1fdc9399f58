"""The page in a real browser: what it draws is what the tables hold."""

from __future__ import annotations

import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.integration.api_service import fill, served, service_over
from tests.tables import WrittenTables

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --window-size=1360,900"
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="no chromium and chromedriver on PATH (Debian: chromium, chromium-driver)",
    ),
]


@pytest.fixture(scope="module")
def now_ms():
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def address(tmp_path_factory, now_ms):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=8, now_ms=now_ms)
    with served(service_over(tables, now_ms=now_ms)) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def wait_for(browser, condition, deadline_s=30.0):
    """The script's value once it is true."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if found := browser.execute_script(f"return {condition}"):
            return found
    raise AssertionError(f"not within {deadline_s} s: {condition}")


def show(browser, address, search):
    browser.get(f"{address}/{search}")
    wait_for(browser, "window.varve && window.varve.answers > 0")


def drawn_pixels(browser):
    """Pixels of the chart's canvas that have a colour and not a shade of grey."""
    return browser.execute_script("""
        const canvas = document.querySelector("#plot canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let coloured = 0;
        for (let i = 0; i < data.length; i += 4) {
          const [r, g, b, a] = data.subarray(i, i + 4);
          if (a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured++;
        }
        return coloured;
    """)


def test_a_recent_chart_has_the_points_of_the_tables(browser, address, now_ms):
    show(browser, address, "?expr=shop_requests_total&range=5m&step=15s&refresh=off")

    plotted = browser.execute_script("return window.varve.plotted")
    assert len(plotted["series"]) == 4
    begin = now_ms - 8 * 86_400_000
    times = plotted["times"]
    for series in plotted["series"]:
        slope = int(series["name"].split('instance="h')[1][0]) + 1
        for k, value in enumerate(series["values"]):
            at = times["start"] + k * times["step"]
            # The last sample at or before the point, samples being 15 s apart.
            behind = at - (value / slope + begin / 1000)
            assert -1e-6 <= behind < 15.001
    assert drawn_pixels(browser) > 1_000


def test_an_eight_day_chart_is_drawn_from_end_to_end(browser, address, now_ms):
    began = time.monotonic()
    show(
        browser,
        address,
        "?expr=sum by (route) (rate(shop_requests_total[1h]))&range=8d&refresh=off",
    )

    assert time.monotonic() - began < 20
    plotted = browser.execute_script("return window.varve.plotted")
    assert [series["name"] for series in plotted["series"]] == ['{route="/r0"}', '{route="/r1"}']
    for series, rate in zip(plotted["series"], (4, 6), strict=True):
        values = [value for value in series["values"] if value is not None]
        assert len(values) > 500
        assert values[10:-2] == pytest.approx([rate] * (len(values) - 12), rel=0.02)
    assert plotted["times"]["end"] - plotted["times"]["start"] > 7.9 * 86_400
    assert drawn_pixels(browser) > 1_000


def test_an_instant_table_has_a_row_a_series(browser, address):
    show(browser, address, "?expr=shop_requests_total&tab=table&refresh=off")

    rows = browser.find_elements(By.CSS_SELECTOR, "#table tbody tr")
    head = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#table th")]
    assert head == ["metric", "instance", "job", "route", "value"]
    assert [row.text.split()[1] for row in rows] == ["h0", "h1", "h2", "h3"]


def test_an_error_is_said_and_marked_where_it_is(browser, address):
    show(browser, address, "?expr=sum(shop_requests_total[5x])&refresh=off")

    assert "parse error" in browser.find_element(By.ID, "error").text
    assert browser.execute_script("return document.querySelector('#marks mark') !== null")


def test_ctrl_enter_runs_and_the_address_holds_the_question(browser, address):
    show(browser, address, "?expr=1&tab=table&refresh=off")
    area = browser.find_element(By.ID, "expression")

    area.send_keys(Keys.END, " + 41", Keys.CONTROL, Keys.ENTER)

    assert wait_for(browser, "window.varve.table?.result?.[1] === '42'")
    assert "expr=1+%2B+41" in browser.current_url
    assert "tab=table" in browser.current_url


def test_names_are_completed_from_the_metrics_there_are(browser, address):
    show(browser, address, "?expr=1&tab=table&refresh=off")
    area = browser.find_element(By.ID, "expression")
    area.clear()

    area.send_keys("shop_r")
    wait_for(browser, "!document.getElementById('hints').hidden")
    area.send_keys(Keys.TAB)

    assert area.get_property("value") == "shop_requests_total"


def test_functions_are_completed_and_say_what_they_give(browser, address):
    show(browser, address, "?expr=1&tab=table&refresh=off")
    area = browser.find_element(By.ID, "expression")
    area.clear()

    area.send_keys("double_exp")
    wait_for(browser, "!document.getElementById('hints').hidden")
    said = browser.execute_script("return document.querySelector('#hints li').title")
    area.send_keys(Keys.TAB)

    assert area.get_property("value") == "double_exponential_smoothing"
    assert said.splitlines()[0] == "double_exponential_smoothing(range vector, scalar, scalar)"


def test_the_theme_changes_and_the_chart_is_drawn_again(browser, address):
    show(browser, address, "?expr=shop_requests_total&range=1h&refresh=off")
    before = browser.execute_script("return document.documentElement.dataset.theme")

    browser.find_element(By.ID, "theme").click()

    assert browser.execute_script("return document.documentElement.dataset.theme") != before
    assert drawn_pixels(browser) > 1_000


def test_it_says_what_the_answer_was_read_from(browser, address):
    show(browser, address, "?expr=shop_requests_total&range=1h&refresh=off")

    text = browser.find_element(By.ID, "provenance").text
    assert "complete until" in text
    assert "snapshot" in text
    assert "complete until" in browser.find_element(By.ID, "fresh").text


def test_no_page_left_an_error_in_the_console(browser, address):
    show(browser, address, "?expr=shop_requests_total&refresh=off")

    severe = [
        entry for entry in browser.get_log("browser") if "400 (Bad Request)" not in str(entry)
    ]
    assert severe == []
