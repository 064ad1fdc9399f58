"""Tests of rules: by blocks of times it comes to the same as time by time."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rules.making import MINUTE, group
from varve.rules import unit_tests
from varve.rules.errors import RuleFileError
from varve.rules.unit_test_file import parse_test_file
from varve.rules.unit_tests import run_test


def failures(text, rules, monkeypatch=None):
    file = parse_test_file(textwrap.dedent(text))
    return [failure.text for test in file.tests for failure in run_test(test, file, [group(rules)])]


def test_what_differs_is_said_as_promtool_says_it():
    said = failures(
        """\
        tests:
        - name: first
          input_series: [{series: 'm{a="b"}', values: 1x5}]
          alert_rule_test: [{eval_time: 2m, alertname: A}]
          promql_expr_test: [{expr: r, eval_time: 1m, exp_samples: [{labels: r, value: 2}]}]
        """,
        [("A", "m > 0"), ("r", "m")],
    )

    alert, expr = said
    assert alert == (
        "    name: first,\n    alertname: A, time: 2m, \n        exp:[], \n        got:[\n"
        '            0:\n              Labels:{a="b", alertname="A"}\n'
        "              Annotations:{}\n            ]"
    )
    assert expr == (
        '    expr: "r", time: 1m,\n        exp: {__name__="r"} 2E+00\n'
        '        got: {__name__="r", a="b"} 1E+00'
    )


def test_samples_after_the_time_of_an_evaluation_are_not_there_yet():
    text = """\
    tests:
    - input_series: [{series: m, values: 0+1x10}]
      promql_expr_test:
      - {expr: r, eval_time: 3m, exp_samples: [{labels: r, value: 0}]}
      - {expr: s, eval_time: 3m, exp_samples: [{labels: s, value: 3}]}
    """

    assert failures(text, [("r", "m @ 0"), ("s", "m offset -4m")]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: [{start_timestamp: soon}]", "a Unix time in seconds or one of RFC 3339"),
        ("tests: [{nothing: 1}]", "field nothing not found in a test"),
        ("group_eval_order: [a, a]", "group name repeated in evaluation order: a"),
        ("evaluation_interval: 1x", 'unknown unit "x" in duration "1x"'),
    ],
)
def test_a_file_that_is_none_is_refused(text, said):
    with pytest.raises(RuleFileError, match=said):
        parse_test_file(text)


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("{series: 'm{', values: 1}", "1:3: parse error"),
        ("{series: m, values: x}", "unexpected 'x'"),
    ],
)
def test_a_series_that_cannot_be_read_fails_its_test(series, said):
    [one] = failures(f"tests: [{{input_series: [{series}]}}]", [("r", "m")])

    assert said in one


EXPRESSIONS = st.sampled_from(
    [
        *("m", "m > 3", "rate(m[3m])", "absent(m)", "a + 1", "count(ALERTS)", "m offset 2m"),
        *("m @ 120", "sum_over_time(m[5m:1m])", "m + on() group_left() n", "time()", "scalar(m)"),
        "topk(1, {x!=''})",
    ]
)
RULES = st.lists(st.tuples(st.sampled_from(["a", "b", "Alert", "Other"]), EXPRESSIONS), max_size=5)


@given(RULES, st.sampled_from(["0+1x20", "1 _ _ _ _ _ _ _ 5 stale 7", "3x4 stale _x3 9"]))
def test_by_blocks_it_comes_to_the_same_as_time_by_time(rules, values):
    parsed = group(rules or [("a", "m")])
    file = parse_test_file(
        f"tests: [{{input_series: [{{series: m, values: '{values}'}}, {{series: 'n{{x=\"1\"}}',"
        " values: _x6 1x3}, {series: 'n{x=\"2\"}', values: _x8 1x9}], promql_expr_test:"
        " [{expr: '{__name__=~\".+\"}', eval_time: 15m}, {expr: a, eval_time: 6m}]}]"
    )
    [test] = file.tests

    by_blocks = run_test(test, file, [parsed])

    original, unit_tests.RangeAhead = unit_tests.RangeAhead, lambda *_a, **_k: lambda _r, _t: None
    try:
        one_by_one = run_test(test, file, [parsed])
    finally:
        unit_tests.RangeAhead = original
    assert by_blocks == one_by_one
    assert test.until_ms == 15 * MINUTE
