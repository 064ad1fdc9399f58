"""GET /api/v1/rules: filters and pages."""

import pytest

from varve.model.errors import BadRequest
from varve.rules import api_json
from varve.rules.api_filter import RuleFilter
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.rule_file import parse_rule_file

GROUPS = [
    group
    for name, text in {
        "a.yml": "groups: [{name: x, rules: [{record: r, expr: m, labels: {team: a}},"
        " {alert: A, expr: m, labels: {team: b}}]}, {name: y, rules: [{alert: B, expr: m}]}]",
        "b.yml": "groups: [{name: x, rules: [{record: s, expr: m}]}]",
    }.items()
    for group in parse_rule_file(text, name)
]
JSON = api_json.rules([GroupRun(group) for group in GROUPS], Evaluator())["groups"]


def names(*given):
    found = RuleFilter.of(given).apply(JSON)
    return [(g["file"], g["name"], [r["name"] for r in g["rules"]]) for g in found["groups"]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [("a.yml", "x", ["r", "A"]), ("a.yml", "y", ["B"]), ("b.yml", "x", ["s"])]),
        ([("type", "alert")], [("a.yml", "x", ["A"]), ("a.yml", "y", ["B"])]),
        ([("type", "record"), ("file[]", "b.yml")], [("b.yml", "x", ["s"])]),
        ([("rule_group[]", "y")], [("a.yml", "y", ["B"])]),
        (
            [("rule_name[]", "B"), ("rule_name[]", "s")],
            [("a.yml", "y", ["B"]), ("b.yml", "x", ["s"])],
        ),
        ([("match[]", '{team="a"}')], [("a.yml", "x", ["r"])]),
        ([("match[]", '{team=~"a|b"}'), ("type", "alert")], [("a.yml", "x", ["A"])]),
    ],
)
def test_filters(given, expected):
    assert names(*given) == expected


def test_pages_have_every_group_once():
    found, token = [], ""
    while True:
        given = [("group_limit", "1"), *([("group_next_token", token)] if token else [])]
        page = RuleFilter.of(given).apply(JSON)
        found += [(g["file"], g["name"]) for g in page["groups"]]
        token = page.get("groupNextToken", "")
        if not token:
            break

    assert found == [("a.yml", "x"), ("a.yml", "y"), ("b.yml", "x")]


@pytest.mark.parametrize(
    "given",
    [
        [("type", "x")],
        [("exclude_alerts", "x")],
        [("group_limit", "0")],
        [("group_limit", "x")],
        [("group_next_token", "x")],
        [("match[]", "{")],
        [("match[]", "1 + 1")],
    ],
)
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(BadRequest):
        RuleFilter.of(given)


def test_a_page_that_is_gone_is_refused():
    with pytest.raises(BadRequest, match="were rule groups changed"):
        RuleFilter.of([("group_limit", "1"), ("group_next_token", "abc")]).apply(JSON)
