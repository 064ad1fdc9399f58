import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.promql.strategies import expressions
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text

random_trees = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@random_trees
@given(expressions())
def test_what_is_printed_parses_to_an_equal_tree(expr):
    assert parse(to_text(expr)) == expr


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("sum(foo)by(a,b)", "sum by (a, b) (foo)"),
        ("sum without(  ) (foo)", "sum without () (foo)"),
        ("sum by () (foo)", "sum(foo)"),
        ('sum by ("a.b", "a") (foo)', 'sum by ("a.b", a) (foo)'),
        ("TOPK(5,foo)", "topk(5, foo)"),
        ('{b=\'y\',a="x",__name__="foo"}', '{__name__="foo",a="x",b="y"}'),
        ("foo{b='y',a!~`x`}", 'foo{a!~"x",b="y"}'),
        ('{"a b"="c","foo"}', '{"a b"="c",__name__="foo"}'),
        ("foo[90]", "foo[1m30s]"),
        ("foo[0.0005]", "foo[0.0005]"),
        ("foo offset 5m @ 3", "foo @ 3.000 offset 5m"),
        ("foo[5m] offset -1w @ end() smoothed", "foo[5m] smoothed @ end() offset -1w"),
        ("foo offset 5m anchored", "foo anchored offset 5m"),
        ("foo[1h:5m] @ -1.5", "foo[1h:5m] @ -1.500"),
        ("foo[1h:]", "foo[1h:]"),
        ("foo[MAX_OF(step( ),1+2)]", "foo[max_of(step(), 1 + 2)]"),
        ("foo offset (-(step()*2))", "foo offset (-(step() * 2))"),
        ("a+b==bool 3", "a + b == bool 3"),
        ("a==bool on()b", "a == bool on () b"),
        ("a*on(x)group_left(y,z)b", "a * on (x) group_left (y, z) b"),
        ("a*ignoring()group_right b", "a * ignoring () group_right () b"),
        ("a+ignoring()b", "a + b"),
        ("a+fill_right(2)fill_left(1)b", "a + fill_left (1) fill_right (2) b"),
        ("a+fill_right(1)fill_left(1)b", "a + fill (1) b"),
        ("1e3", "1000"),
        ("90m", "1h30m"),
        ("- - 1", "1"),
        ("-(-1)", "-(-1)"),
        ("Inf^2+-Inf", "Inf ^ 2 + -Inf"),
        ("'\"\\xff'", '"\\"\\xff"'),
    ],
)
def test_there_is_one_way_to_write_a_tree(query, text):
    assert to_text(parse(query)) == text


def test_a_long_chain_of_operators_is_printed():
    query = " + ".join(["foo"] * 20_000)

    assert to_text(parse(query)) == query
