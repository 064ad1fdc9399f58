import json

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.promql.strategies import expressions
from varve.promql.errors import BadQueryError
from varve.promql.syntax.ast import MatrixSelector, NumberLiteral, Subquery, VectorSelector
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text
from varve.promql.syntax.tree import children, height, pin_at, walk
from varve.promql.syntax.tree_json import MAX_HEIGHT, to_json


@pytest.mark.parametrize(
    ("query", "pinned"),
    [
        ("foo", "foo @ 5.000"),
        ("foo offset 1m", "foo @ 5.000 offset 1m"),
        ("foo @ 1", "foo @ 1.000"),
        ("foo @ end()", "foo @ end()"),
        ("rate(foo[5m]) + sum(bar)", "rate(foo[5m] @ 5.000) + sum(bar @ 5.000)"),
        ("topk(scalar(foo), -(bar))", "topk(scalar(foo @ 5.000), -(bar @ 5.000))"),
        ("sum(foo)[5m:]", "sum(foo)[5m:] @ 5.000"),
        ("sum(foo)[5m:] @ 1", "sum(foo)[5m:] @ 1.000"),
        ("1 + time()", "1 + time()"),
    ],
)
def test_a_pinned_tree_no_longer_depends_on_the_evaluation_time(query, pinned):
    assert to_text(pin_at(parse(query), 5000)) == pinned


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(expressions())
def test_a_pinned_tree_has_a_time_on_all_that_read_samples(expr):
    pinned = pin_at(expr, -1)

    assert parse(to_text(pinned)) == pinned
    assert pin_at(pinned, 7) == pinned
    pending = [pinned]
    while pending:
        node = pending.pop()
        if isinstance(node, Subquery | VectorSelector):
            assert node.at is not None
        else:
            pending += children(node)


def test_a_walk_goes_in_reading_order():
    walked = list(walk(parse("topk(1, rate(foo[5m])) + 2")))

    assert [type(node).__name__ for node in walked] == [
        "Binary",
        "Aggregate",
        "NumberLiteral",
        "Call",
        "MatrixSelector",
        "VectorSelector",
        "NumberLiteral",
    ]
    assert walked[2] == NumberLiteral(1.0)
    assert isinstance(walked[4], MatrixSelector)


def test_the_height_of_a_long_chain_is_its_length():
    assert height(parse("foo")) == 1
    assert height(parse(" + ".join(["foo"] * 5_000))) == 5_000


def test_json_is_in_the_shape_of_parse_query():
    assert to_json(parse("sum by (a) (foo{b='c'} offset 1m) / on (a) fill_left (0) bar")) == {
        "type": "binaryExpr",
        "op": "/",
        "bool": False,
        "matching": {
            "card": "one-to-one",
            "labels": ["a"],
            "on": True,
            "include": [],
            "fillValues": {"lhs": 0.0, "rhs": None},
        },
        "lhs": {
            "type": "aggregation",
            "op": "sum",
            "param": None,
            "grouping": ["a"],
            "without": False,
            "expr": {
                "type": "vectorSelector",
                "name": "foo",
                "offset": 60_000,
                "offsetExpr": None,
                "matchers": [
                    {"name": "b", "value": "c", "type": "="},
                    {"name": "__name__", "value": "foo", "type": "="},
                ],
                "timestamp": None,
                "startOrEnd": None,
                "anchored": False,
                "smoothed": False,
            },
        },
        "rhs": {
            "type": "vectorSelector",
            "name": "bar",
            "offset": 0,
            "offsetExpr": None,
            "matchers": [{"name": "__name__", "value": "bar", "type": "="}],
            "timestamp": None,
            "startOrEnd": None,
            "anchored": False,
            "smoothed": False,
        },
    }


def test_json_has_times_in_ms_and_durations_as_written():
    query = "-max_over_time((foo)[1h:step()*2] @ 1.5) ^ 0x10"
    call = to_json(parse(query))["expr"]["lhs"]

    assert call["func"] == {
        "name": "max_over_time",
        "argTypes": ["matrix"],
        "variadic": 0,
        "returnType": "vector",
    }
    subquery = call["args"][0]
    assert subquery["expr"]["type"] == "parenExpr"
    del subquery["expr"]
    assert subquery == {
        "type": "subquery",
        "range": 3_600_000,
        "rangeExpr": None,
        "offset": 0,
        "offsetExpr": None,
        "step": 0,
        "stepExpr": {
            "type": "durationExpr",
            "op": "*",
            "lhs": {
                "type": "durationExpr",
                "op": "step",
                "lhs": None,
                "rhs": None,
                "wrapped": False,
            },
            "rhs": {"type": "numberLiteral", "val": "2", "duration": False},
            "wrapped": False,
        },
        "timestamp": 1500,
        "startOrEnd": None,
    }
    assert to_json(parse(query))["expr"]["rhs"] == {"type": "numberLiteral", "val": "16"}
    assert to_json(parse("foo[5m] @ end()"))["startOrEnd"] == "end"


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(expressions())
def test_every_tree_is_strict_json(expr):
    json.dumps(to_json(expr), allow_nan=False).encode()


def test_a_tree_too_high_for_encoders_is_refused():
    json.dumps(to_json(parse(" + ".join(["foo"] * MAX_HEIGHT))))

    with pytest.raises(BadQueryError, match="301 levels high"):
        to_json(parse(" + ".join(["foo"] * (MAX_HEIGHT + 1))))
