"""Rules over the past: what they give is what the service gave, and twice the same bytes."""

import json

import pytest

from tests.unit.rules.running.test_runner import RULES, live
from tests.unit.rules.running.world import START_MS, Process, World
from varve.notify.config.load import read_config
from varve.query.reader import Reader
from varve.rules.backtest.backtest import backtest
from varve.rules.backtest.report import Report
from varve.rules.backtest.told import told
from varve.rules.group_run import Evaluator
from varve.rules.rule_file import parse_rule_file

SECONDS = 120
CONFIG = read_config(
    "route: {receiver: r, group_by: [alertname], group_wait: 1s, group_interval: 5s}\n"
    "receivers: [{name: r, webhook_configs: [{url: 'http://h.example/'}]}]\n"
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A world in which rules ran, and its process."""
    world = World(str(tmp_path_factory.mktemp("world")))
    process = Process(world, RULES)
    live(world, process, SECONDS)
    world.ingest()
    process.tick()
    process.tables.poll()
    yield world, process
    process.close()


def ran(lived, rules=RULES, start_s=5, end_s=SECONDS - 5):
    _, process = lived
    view = process.tables.view
    return backtest(
        parse_rule_file(rules, "rules.yml"),
        lambda: Reader(view),
        Evaluator(interval_ms=5_000),
        START_MS + start_s * 1000,
        START_MS + end_s * 1000,
    )


def report(run, **more):
    return Report(("rules.yml",), "token", None, run, **more)


def test_it_finds_the_changes_that_the_service_found(lived):
    world, _ = lived
    happened = [c for c in world.changes() if c[0] <= SECONDS - 5]

    run = ran(lived)

    found = []
    for record in run.rules:
        for one in record.episodes:
            times = {"pending": one.pending_ms, "firing": one.fired_ms}
            if one.pending_ms == one.fired_ms:
                del times["pending"]
            if one.ended_ms is not None:
                times["resolved" if one.fired else "inactive"] = one.ended_ms
            found += [
                ((at - START_MS) / 1000, state, record.name)
                for state, at in times.items()
                if at is not None
            ]
    expected = {c[:3] for c in happened}
    # What keep_firing_for keeps is a change of its own in the table.
    assert set(found) <= expected
    assert {c for c in expected if c[2] == "High"} == {c for c in found if c[2] == "High"}


def test_equal_rules_span_and_snapshot_give_equal_bytes(lived):
    reports = [report(run, told=told(run, CONFIG)) for run in (ran(lived), ran(lived))]

    assert json.dumps(reports[0].to_json()) == json.dumps(reports[1].to_json())
    assert reports[0].to_html() == reports[1].to_html()
    assert reports[0].to_text() == reports[1].to_text()


def test_rules_see_their_own_series_and_not_those_that_were_stored(lived):
    other = RULES.replace("m * 2", "m * 0")

    run = ran(lived, other)

    assert not next(record for record in run.rules if record.name == "High").episodes


def test_who_is_told_follows_from_the_configuration(lived):
    run = ran(lived)

    messages = told(run, CONFIG)

    high = next(record for record in run.rules if record.name == "High")
    firing = [m for m in messages if ("alertname", "High") in m.group and m.status == "firing"]
    assert [m.at_ms for m in firing] == [e.fired_ms + 1_000 for e in high.fired]
    resolved = [m for m in messages if ("alertname", "High") in m.group and m.status == "resolved"]
    assert len(resolved) == sum(1 for e in high.fired if e.ended_ms)


def test_against_other_rules_the_difference_is_said(lived):
    run, old = ran(lived), ran(lived, RULES.replace("for: 10s", "for: 0s"))

    found = report(run, against_files=("old.yml",), against=old).to_json()["against"]

    assert {one["labels"]["alertname"] for one in found["only_there"]} == {"High"}
    assert len(found["only_here"]) == len(next(r for r in run.rules if r.name == "High").fired)
    text = report(run, against_files=("old.yml",), against=old).to_text()
    assert "against old.yml:" in text


def test_a_page_shows_no_label_as_html(lived):
    rules = (
        """groups: [{name: g, rules: [{alert: A, expr: m > 0, labels: {x: "<b onclick='1'>"}}]}]"""
    )

    page = report(ran(lived, rules)).to_html()

    assert "<b onclick" not in page
    assert "&lt;b onclick" in page


def test_an_alert_that_comes_back_soon_has_flapped(lived):
    rules = "groups: [{name: g, rules: [{alert: A, expr: m > 6}]}]"

    (record,) = ran(lived, rules).rules

    assert record.flapped == len(record.fired) - 1 > 0
