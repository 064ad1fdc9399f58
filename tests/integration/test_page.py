"""The page in a real browser: what it draws is what the tables hold."""

from __future__ import annotations

import json
import shutil
import time
from urllib.parse import quote

import bcrypt
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.integration.api_service import fill, served, service_over
from tests.tables import WrittenTables
from varve.access.credentials import Credentials

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
def tables(tmp_path_factory, now_ms):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=8, now_ms=now_ms)
    return tables


@pytest.fixture(scope="module")
def address(tables, now_ms):
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


def call(browser, module, expression):
    """What an expression gives over the names that a module of the page exports."""
    return browser.execute_async_script(
        f"""const done = arguments[arguments.length - 1];
        import("/static/{module}").then((m) => done({expression}), (e) => done(String(e)));"""
    )


@pytest.mark.parametrize(
    ("marks", "shown"),
    [
        ([0, 2.5, 5], ["0", "2.5", "5.0"]),
        ([0, 12_500, 25_000], ["0", "12.5k", "25.0k"]),
        ([100, 100.25], ["100.00", "100.25"]),
        ([0, 5e299, 1e300], ["0", "5e299", "1e300"]),
        ([1e300, 1.05e300], ["1e300", "1.05e300"]),
        ([3e-7, 3.5e-7], ["300n", "350n"]),
        ([0, 1, 2], ["0", "1", "2"]),
    ],
)
def test_marks_of_an_axis_are_what_they_stand_at(browser, address, marks, shown):
    show(browser, address, "?expr=1&refresh=off")

    assert call(browser, "format.js", f"m.axisNumbers({marks})") == shown


@pytest.mark.parametrize("value", ["1e300", "-1e300", "1.7e308", "1e-300", "5e-324", "0", "2.5"])
def test_values_of_any_size_are_drawn_with_their_labels(browser, address, value):
    show(browser, address, f"?expr=vector({value})&range=5m&refresh=off")

    assert drawn_pixels(browser) > 100
    legend = browser.find_element(By.ID, "legend").text.split("\n")
    numbers = [text for text in legend if text.replace(".", "").lstrip("-")[:1].isdigit()]
    shown = call(browser, "format.js", f"m.shortNumber({value})")
    assert numbers.count(shown) == 4  # min, avg, max and the last one
    marks = browser.execute_script("return window.varve.marks()")
    assert len(set(marks)) == len(marks) >= 3
    assert all(len(mark) < 12 for mark in marks)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1e300", "1e300"),
        ("-1.234e300", "-1.23e300"),
        ("1.5e-300", "1.5e-300"),
        ("1e20", "1e20"),
        ("12345", "12.35k"),
    ],
)
def test_numbers_are_as_short_as_their_column(browser, address, value, shown):
    show(browser, address, "?expr=1&refresh=off")

    assert call(browser, "format.js", f"m.shortNumber({value})") == shown


@pytest.mark.parametrize(("value", "shown"), [("Inf", "+Inf"), ("-Inf", "-Inf"), ("NaN", "NaN")])
def test_what_no_line_can_show_is_the_last_value_in_the_legend(browser, address, value, shown):
    show(browser, address, f"?expr=vector({value})&range=5m&refresh=off")

    row = browser.find_element(By.CSS_SELECTOR, "#legend .series")
    assert row.find_element(By.CSS_SELECTOR, ".value").text == shown
    assert row.find_element(By.CSS_SELECTOR, ".max").text == "\N{EN DASH}"


@pytest.mark.parametrize("tab", ["graph", "table"])
def test_a_name_turns_and_breaks_nothing_beside_it(browser, address, tab):
    odd = "a\u202eb\u2066c\\nd\\u0007<b>e</b>"
    query = quote(f'label_replace(vector(1), "{odd}", "{odd}", "", "")')
    show(browser, address, f"?expr={query}&tab={tab}&range=5m&refresh=off")

    text = browser.find_element(By.ID, "legend" if tab == "graph" else "table").text
    assert r"a\u202eb\u2066c\u000ad\u0007<b>e</b>" in text


def test_a_table_breaks_no_number_and_an_error_leaves_room(browser, address):
    query = quote(f'label_replace(vector(1.7976931348623157e308), "x", "{"y" * 5_000}", "", "")')
    show(browser, address, f"?expr={query}&tab=table&refresh=off")
    cell = browser.find_element(By.CSS_SELECTOR, "#table td.value")
    assert cell.find_element(By.XPATH, "..").size["height"] > 100
    lines = browser.execute_script(
        "const r = document.createRange(); r.selectNodeContents(arguments[0]);"
        "return r.getClientRects().length",
        cell,
    )
    assert lines == 1

    show(browser, address, f"?expr={'x' * 9_000}(&range=5m&refresh=off")
    error = browser.find_element(By.ID, "error")
    assert "parse error" in error.text
    assert error.size["height"] <= 0.31 * browser.execute_script("return innerHeight")


@pytest.mark.parametrize(
    "search",
    ["end=1e300", "end=-1e300", "end=Infinity", "end=9e15", "range=1e99", "range=-5", "range=0"],
)
def test_an_address_of_no_time_shows_the_present(browser, address, search):
    show(browser, address, f"?expr=shop_requests_total&refresh=off&{search}")

    assert browser.execute_script("return window.varve.error") is None
    assert len(browser.execute_script("return window.varve.plotted.series")) == 4


def test_on_a_phone_the_chart_is_in_sight(phone, address):
    show(phone, address, "?expr=shop_requests_total&range=1h&refresh=off")

    top = phone.execute_script(
        "return document.querySelector('#plot canvas').getBoundingClientRect().top"
    )
    assert top < 780 * 0.7


def test_an_axis_from_end_to_end_of_all_numbers_has_marks(browser, address):
    query = "label_replace(vector(1.7e308), 'x', 'a', '', '') or vector(-1.7e308)"
    show(browser, address, f"?expr={query}&range=5m&refresh=off")

    marks = browser.execute_script("return window.varve.marks()")

    assert len(set(marks)) == len(marks) >= 3
    assert any(mark.startswith("-") for mark in marks)
    assert not any(mark.startswith("-") for mark in marks[-1:])


def test_a_failed_query_does_not_say_that_there_are_no_series(browser, address):
    show(browser, address, "?expr=nowhere&range=5m&refresh=off")
    nothing = browser.find_element(By.ID, "nothing")
    assert "No series between" in nothing.text
    assert 'Unknown metric "nowhere"' in nothing.text
    area = browser.find_element(By.ID, "expression")

    area.send_keys("(", Keys.CONTROL, Keys.ENTER)
    wait_for(browser, "window.varve.error !== null")

    assert not nothing.is_displayed()
    assert "parse error" in browser.find_element(By.ID, "error").text


def test_the_legend_has_least_mean_and_greatest_of_what_is_drawn(browser, address):
    show(browser, address, "?expr=shop_requests_total&range=5m&step=15s&refresh=off")

    plotted = browser.execute_script("return window.varve.plotted.series")
    rows = browser.find_elements(By.CSS_SELECTOR, "#legend .series")
    assert len(rows) == len(plotted) == 4
    for row, series in zip(rows, plotted, strict=True):
        values = [value for value in series["values"] if value is not None]
        wanted = [min(values), sum(values) / len(values), max(values), values[-1]]
        shown = [
            row.find_element(By.CSS_SELECTOR, f".{name}").text
            for name in ("min", "avg", "max", "value")
        ]
        assert shown == [call(browser, "format.js", f"m.shortNumber({v!r})") for v in wanted]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["h1", "h2"], ["h1", "h2"]),
        (
            ["/srv/www/shop/static/a.js", "/srv/www/shop/static/b.js"],
            ["…a.js", "…b.js"],
        ),
        (
            ['{path="/very/long/path/one", x="1"}', '{path="/very/long/path/two", x="1"}'],
            ['…one", x="1"}', '…two", x="1"}'],
        ),
        (["instance-eu-west-1001", "instance-eu-west-1002"], ["…1001", "…1002"]),
        (["the same beginning", "and another end"], ["the same beginning", "and another end"]),
    ],
)
def test_names_in_a_legend_show_what_tells_them_apart(browser, address, names, shown):
    show(browser, address, "?expr=1&refresh=off")

    assert call(browser, "format.js", f"m.distinctParts({json.dumps(names)})") == shown


def test_the_time_zone_is_named(browser, address):
    show(browser, address, "?expr=1&refresh=off")

    assert "UTC" in browser.find_element(By.ID, "zone").text


def set_time(browser, name, seconds):
    browser.execute_script(
        """const [name, seconds] = arguments;
        const input = document.getElementById(name);
        const date = new Date(seconds * 1000);
        input.value = new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
        input.dispatchEvent(new Event("change"));""",
        name,
        seconds,
    )


def test_start_and_end_can_be_chosen(browser, address, now_ms):
    show(browser, address, "?expr=shop_requests_total&range=1h&refresh=off")
    assert not browser.find_element(By.ID, "start").is_displayed()
    browser.find_element(By.ID, "pick").click()
    end = now_ms // 1000 - 7_200

    set_time(browser, "end", end)
    set_time(browser, "start", end - 1_800)
    wait_for(browser, f"window.varve.plotted?.times.start >= {end - 1_860}")

    times = browser.execute_script("return window.varve.plotted.times")
    assert end - 60 < times["end"] <= end
    assert end - 1_860 < times["start"] <= end - 1_800 + 60
    browser.find_element(By.ID, "now").click()
    wait_for(browser, "document.getElementById('start').offsetParent === null")


@pytest.fixture
def phone(browser):
    size = {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_covers_the_chart_on_a_phone(phone, address):
    show(phone, address, "?expr=shop_requests_total&range=1h&refresh=off")

    covering = phone.execute_script("""
        const plot = document.querySelector("#plot .u-over");
        const found = [];
        for (const share of [0.02, 0.25, 0.5, 0.75, 0.98]) {
          const box = plot.getBoundingClientRect();
          // To the bottom of the screen.
          scrollBy(0, box.top + share * box.height - innerHeight + 4);
          const now = plot.getBoundingClientRect();
          for (const x of [0.1, 0.5, 0.9]) {
            const y = Math.min(now.top + share * now.height, innerHeight - 2);
            const top = document.elementFromPoint(now.left + x * now.width, y);
            if (top && !plot.parentElement.contains(top)) found.push(top.id || top.className);
          }
        }
        return found;
    """)

    assert covering == []
    assert phone.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_page_recovers_by_itself_when_the_service_was_away(browser, tmp_path, now_ms):
    tables = WrittenTables(str(tmp_path))
    fill(tables, days=0.05, now_ms=now_ms)
    with served(service_over(tables, now_ms=now_ms)) as url:
        show(browser, url, "?expr=shop_requests_total&range=5m&refresh=off")
        before = browser.execute_script("return window.varve.plotted.series.length")
        browser.find_element(By.ID, "run").click()
        wait_for(browser, "window.varve.answers > 1")
    area = browser.find_element(By.ID, "expression")
    area.send_keys(" * 1")
    browser.find_element(By.ID, "run").click()
    wait_for(browser, "/Trying again in [48]s/.test(window.varve.error)")
    said = browser.find_element(By.ID, "error").text
    drawn = drawn_pixels(browser)
    answers = browser.execute_script("return window.varve.answers")

    with served(service_over(tables, now_ms=now_ms), port=int(url.rpartition(":")[2])):
        wait_for(browser, f"window.varve.error === null && window.varve.answers > {answers}")
        after = browser.execute_script("return window.varve.plotted")

    assert "does not answer" in said
    assert drawn > 100  # what was known stays in sight
    assert before == len(after["series"]) == 4
    assert after["expr"].endswith("* 1")


UP = {"name": "up", "state": "degraded", "note": "streams: needs an operator"}
QUERY = {"name": "query", "state": "ready", "note": ""}
STREAMS = {"name": "streams", "state": "failed", "note": "wrong password <b>for</b> Kafka"}
HISTORY = {"name": "demo-history", "state": "stopped", "note": ""}
BROKER = {"name": "kafka", "state": "held", "note": "disk full"}


@pytest.fixture
def watched(tmp_path, now_ms):
    """A service whose home is in a condition that the test sets: its address, the condition."""
    tables = WrittenTables(str(tmp_path))
    fill(tables, days=0.02, now_ms=now_ms)
    condition = {"state": "degraded", "components": [UP, QUERY, STREAMS, BROKER, HISTORY]}
    service = service_over(tables, now_ms=now_ms)
    service.components = lambda: dict(condition)
    with served(service) as url:
        yield url, condition


def test_what_does_not_run_is_said_with_its_reason_until_it_runs_again(browser, watched):
    url, condition = watched
    show(browser, url, "?expr=shop_requests_total&range=5m&refresh=off")
    wait_for(browser, "!document.getElementById('condition').hidden")
    said = browser.find_element(By.ID, "condition-said")
    assert said.text == "degraded: streams failed, kafka held"
    assert drawn_pixels(browser) > 100  # answers are as good as the tables

    said.click()
    why = browser.find_element(By.ID, "condition-why")
    assert why.text.splitlines() == [
        "streams failed: wrong password <b>for</b> Kafka",
        "kafka held: disk full",
    ]
    condition |= {"state": "ready", "components": [UP | {"state": "ready"}, QUERY]}

    wait_for(browser, "document.getElementById('condition').hidden")


def test_what_does_not_run_is_said_on_a_phone_beside_all_else(phone, watched):
    show(phone, watched[0], "?expr=shop_requests_total&range=5m&refresh=off")
    wait_for(phone, "!document.getElementById('condition').hidden")
    phone.find_element(By.ID, "condition-said").click()

    for name in ("condition-said", "condition-why", "fresh", "theme"):
        box = phone.execute_script(
            "return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", name
        )
        assert box["width"] > 0
        assert box["left"] >= 0
        assert box["right"] <= 390
    assert phone.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_no_page_left_an_error_in_the_console(browser, address):
    show(browser, address, "?expr=shop_requests_total&refresh=off")

    # What the tests before asked for: wrong queries, and a service that is away.
    meant = ("400 (Bad Request)", "ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION")
    severe = [
        entry
        for entry in browser.get_log("browser")
        if not any(text in str(entry) for text in meant)
    ]
    assert severe == []


def test_the_page_asks_who_you_are_and_then_shows_what_you_asked(browser, now_ms, tables):
    service = service_over(tables, now_ms=now_ms)
    hashed = bcrypt.hashpw("pä55".encode(), bcrypt.gensalt(4)).decode()
    service.credentials = Credentials({"reader": "t0ken"}, {"ann": hashed}, [])

    def log_in(user, secret):
        wait_for(browser, "document.getElementById('login').open")
        for name, text in (("user", user), ("secret", secret)):
            field = browser.find_element(By.ID, f"login-{name}")
            field.clear()
            field.send_keys(text)
        field.send_keys(Keys.ENTER)

    with served(service) as url:
        for user, wrong, right in (("", "guessed", "t0ken"), ("ann", "t0ken", "pä55")):
            browser.get(f"{url}/?expr=sum(shop_requests_total)&tab=table&refresh=off")
            log_in(user, wrong)
            wait_for(browser, "!document.getElementById('login-refused').hidden")
            log_in(user, right)
            wait_for(browser, "window.varve && window.varve.answers > 0")
            assert not browser.execute_script("return document.getElementById('login').open")
            browser.execute_script("sessionStorage.clear()")


def test_metrics_are_listed_with_what_is_said_of_them_and_a_click_asks(browser, address):
    show(browser, address, "?expr=1&range=5m&refresh=off")
    browser.find_element(By.ID, "explore").click()
    wait_for(browser, "document.querySelectorAll('#metrics li').length === 3")
    browser.find_element(By.CSS_SELECTOR, "#metrics input").send_keys("answered requests")
    listed = wait_for(browser, "document.querySelector('#metrics li')?.innerText")
    answers = browser.execute_script("return window.varve.answers")

    assert [line.strip() for line in listed.splitlines()] == [
        *("shop_requests_total", "counter", "Requests answered.")
    ]
    browser.find_element(By.CSS_SELECTOR, "#metrics li button").click()
    wait_for(browser, f"window.varve.answers > {answers}")
    expression = browser.find_element(By.ID, "expression").get_attribute("value")
    assert expression == "rate(shop_requests_total[5m])"
    assert len(browser.execute_script("return window.varve.plotted.series")) == 4
