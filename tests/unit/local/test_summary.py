import dataclasses
import json

import pytest

from varve.local.summary import FreshnessFigures, Summary, as_json, as_text, complaints
from varve.model.window import TIERS

ROWS = {"samples": 1_000, "series": 9, "quarantine": 0, **{t.table: 5 for t in TIERS}}
GOOD = Summary(
    live_samples=300,
    pushed_samples=60,
    computed_samples=7,
    generated_samples=700,
    rows=ROWS,
    rejected={"malformed": 3},
    frontier_ms={"1m": 1_760_000_040_000, "5m": None, "1h": None, "1d": None},
    freshness=FreshnessFigures(2.0, 4.5, 5.0, samples=20, answers=60, failures=1),
    unstored=0,
    restarts={"kafka": 0, "streams": 2},
    peak_rss_bytes=3 * 2**30,
    seconds=120.0,
    url="http://127.0.0.1:9690/",
)


def test_nothing_is_missing_from_a_good_run():
    assert complaints(GOOD, live=True, pushed=True, demo=True, measured=True) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"live_samples": 0}, "no live sample reached Kafka"),
        ({"pushed_samples": 0}, "the gateway took no sample"),
        ({"generated_samples": 0}, "no generated sample"),
        ({"rows": ROWS | {"samples": 0}}, "no sample was stored"),
        ({"rows": ROWS | {"rollup_1h": 0}}, "rollup_1h has no row"),
        ({"freshness": FreshnessFigures(None, None, None, 0, 0, 60)}, "gave no answer"),
        ({"freshness": FreshnessFigures(None, None, None, 0, 60, 0)}, "seen in an answer"),
    ],
)
def test_a_stage_that_saw_nothing_is_named(change, words):
    (complaint,) = complaints(
        dataclasses.replace(GOOD, **change), live=True, pushed=True, demo=True, measured=True
    )

    assert words in complaint


def test_without_history_open_windows_are_no_complaint():
    young = dataclasses.replace(
        GOOD, generated_samples=0, rows={"samples": 10, **{t.table: 0 for t in TIERS}}
    )

    assert complaints(young, live=True, pushed=True, demo=False, measured=True) == []


def test_a_run_without_a_collector_is_not_asked_for_live_samples():
    silent = dataclasses.replace(
        GOOD, live_samples=0, freshness=FreshnessFigures(None, None, None, 0, 0, 0)
    )

    assert complaints(silent, live=False, pushed=False, demo=True, measured=True) == []


@pytest.mark.parametrize("answers", [0, 5])
def test_a_run_too_short_to_measure_freshness_is_not_asked_for_it(answers):
    short = dataclasses.replace(GOOD, freshness=FreshnessFigures(None, None, None, 0, answers, 0))

    assert complaints(short, live=True, pushed=True, demo=True, measured=False) == []


def test_the_text_has_every_figure():
    text = as_text(GOOD)

    for figure in ("300", "700", "1,000", "malformed", "2.0 s", "4.5 s", "3.00 GiB", "streams"):
        assert figure in text


def test_the_text_says_what_was_found_in_a_history_and_that_nothing_was_yet():
    found = as_text(
        dataclasses.replace(GOOD, episode="load was high: http://a/anomalies", breach="")
    )

    assert "unusual        load was high: http://a/anomalies" in found
    assert "forecast       nothing yet" in found
    assert "unusual" not in as_text(GOOD)


def test_the_json_is_json():
    assert json.loads(json.dumps(as_json(GOOD, ["a"])))["complaints"] == ["a"]
