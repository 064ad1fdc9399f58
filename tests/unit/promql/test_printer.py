import json

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.promql.strategies import expressions
from varve.promql.parser import parse
from varve.promql.pretty import LINE_WIDTH, pretty
from varve.promql.printer import to_text
from varve.promql.tree_json import to_json


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(expressions())
def test_what_is_printed_parses_to_an_equal_tree(expr):
    assert parse(to_text(expr)) == expr


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(expressions())
def test_what_is_laid_out_parses_to_an_equal_tree(expr):
    assert parse(pretty(expr)) == expr
