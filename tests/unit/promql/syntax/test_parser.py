import math
import time

import pytest

from varve.promql.syntax.ast import (
    Aggregate,
    At,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Matcher,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.cursor import MAX_NESTING, ParseError
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text

M5 = NumberLiteral(300.0, is_duration=True)
ZERO = NumberLiteral(0.0, is_duration=True)
STEP = DurationExpr("step", None, None)


def named(name, *matchers, **modifiers):
    own = Matcher("__name__", MatchOp.EQUAL, name)
    return VectorSelector(name, (*matchers, own), **modifiers)


FOO, BAR = named("foo"), named("bar")


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("1", NumberLiteral(1.0)),
        ("-1", NumberLiteral(-1.0)),
        ("+-+1", NumberLiteral(-1.0)),
        ("1h30m", NumberLiteral(5400.0, is_duration=True)),
        ("-5m", NumberLiteral(-300.0, is_duration=True)),
        ("NaN", NumberLiteral(math.nan)),
        ("-1^2", Unary("-", Binary("^", NumberLiteral(1.0), NumberLiteral(2.0)))),
        ("-1*2", Binary("*", NumberLiteral(-1.0), NumberLiteral(2.0))),
        ("-foo", Unary("-", FOO)),
        ('"a\\tb"', StringLiteral("a\tb")),
        ("'a'", StringLiteral("a")),
        ("`\\a`", StringLiteral("\\a")),
        ("(foo)", Paren(FOO)),
        ("foo # comment", FOO),
    ],
)
def test_literals_and_signs(query, tree):
    assert parse(query) == tree


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("foo{}", FOO),
        ('foo{a="b",}', named("foo", Matcher("a", MatchOp.EQUAL, "b"))),
        (
            '{b!~"y",a=~"x"}',
            VectorSelector(
                "", (Matcher("a", MatchOp.REGEX, "x"), Matcher("b", MatchOp.NOT_REGEX, "y"))
            ),
        ),
        ('{"foo"}', VectorSelector("", (Matcher("__name__", MatchOp.EQUAL, "foo"),))),
        (
            '{"my.metric", "a b"!="c"}',
            VectorSelector(
                "",
                (
                    Matcher("a b", MatchOp.NOT_EQUAL, "c"),
                    Matcher("__name__", MatchOp.EQUAL, "my.metric"),
                ),
            ),
        ),
        ("sum", named("sum")),
        ("offset offset 5m", named("offset", offset=M5)),
        ("start[5m]", MatrixSelector(named("start"), M5)),
        ("Foo:bar", named("Foo:bar")),
        ("foo[300]", MatrixSelector(FOO, M5)),
        ("foo offset -300", named("foo", offset=NumberLiteral(-300.0, is_duration=True))),
        ("foo offset 0", FOO),
        ("foo[5m] @ 1.5 offset 5m", MatrixSelector(named("foo", offset=M5, at=At(1500)), M5)),
        ("foo @ -1m", named("foo", at=At(-60_000))),
        ("foo @ end()", named("foo", at=At("end"))),
        ("foo[5m] anchored", MatrixSelector(named("foo", anchored=True), M5)),
        ("foo smoothed offset 5m", named("foo", offset=M5, smoothed=True)),
        ("foo[5m:]", Subquery(FOO, M5)),
        ("foo[5m:5m] offset 5m @ 3", Subquery(FOO, M5, M5, M5, At(3000))),
        ("sum(foo)[5m:]", Subquery(Aggregate("sum", FOO), M5)),
    ],
)
def test_selectors_and_their_modifiers(query, tree):
    assert parse(query) == tree


ONE, TWO, THREE = (NumberLiteral(value) for value in (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("query", "duration"),
    [
        ("foo[step()]", STEP),
        ("foo[(5m)]", M5),
        ("foo[1+2*3]", DurationExpr("+", ONE, DurationExpr("*", TWO, THREE))),
        ("foo[1-2-3]", DurationExpr("-", DurationExpr("-", ONE, TWO), THREE)),
        ("foo[1^2^3]", DurationExpr("^", ONE, DurationExpr("^", TWO, THREE))),
        ("foo[-1^2]", DurationExpr("-", None, DurationExpr("^", ONE, TWO))),
        ("foo[5m + 0s]", DurationExpr("+", M5, ZERO)),
        ("foo[0s - -5m]", DurationExpr("-", ZERO, NumberLiteral(-300.0, is_duration=True))),
        ("foo[max_of(0ms, 5m)]", DurationExpr("max", ZERO, M5)),
        ("foo[-step()+5m]", DurationExpr("+", DurationExpr("-", None, STEP), M5)),
        ("foo[min_of(step(), 5m)]", DurationExpr("min", STEP, M5)),
        (
            "foo[(STEP() + 5m) * 2]",
            DurationExpr("*", DurationExpr("+", STEP, M5, wrapped=True), TWO),
        ),
    ],
)
def test_durations_in_brackets_are_arithmetic(query, duration):
    assert parse(query).range == duration


@pytest.mark.parametrize(
    ("query", "offset"),
    [
        ("foo offset 5m + 1", M5),
        ("foo offset step() + 1", STEP),
        (
            "foo offset -(step()) + 1",
            DurationExpr("-", None, DurationExpr("step", None, None, True)),
        ),
        ("foo offset +(5m) + 1", M5),
    ],
)
def test_an_operator_after_an_offset_is_not_part_of_it(query, offset):
    assert parse(query) == Binary("+", named("foo", offset=offset), NumberLiteral(1.0))


@pytest.mark.parametrize(
    ("query", "grouped"),
    [
        ("a or b and c", "a or (b and c)"),
        ("a and b or c", "(a and b) or c"),
        ("a unless b and c", "(a unless b) and c"),
        ("a and b == c", "a and (b == c)"),
        ("a == b + c", "a == (b + c)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a * b atan2 c % d", "((a * b) atan2 c) % d"),
        ("a * b ^ c", "a * (b ^ c)"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("-a ^ b", "-(a ^ b)"),
        ("a ^ -b ^ c", "a ^ -(b ^ c)"),
        ("a </ b > c", "(a </ b) > c"),
    ],
)
def test_operators_bind_by_precedence(query, grouped):
    assert parse(query) == without_parentheses(parse(grouped))


def without_parentheses(expr):
    match expr:
        case Paren(expr=inner):
            return without_parentheses(inner)
        case Unary(op=op, expr=inner):
            return Unary(op, without_parentheses(inner))
        case Binary():
            left, right = without_parentheses(expr.lhs), without_parentheses(expr.rhs)
            return Binary(expr.op, left, right, expr.return_bool, expr.matching)
    return expr


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ("foo + bar", VectorMatching()),
        ("foo + on() bar", VectorMatching(on=True)),
        ('foo + on(a, "b c",) bar', VectorMatching(labels=("a", "b c"), on=True)),
        ("foo + ignoring(by) bar", VectorMatching(labels=("by",))),
        ("foo and bar", VectorMatching(Cardinality.MANY_TO_MANY)),
        (
            "foo + on(a) group_left(b) bar",
            VectorMatching(Cardinality.MANY_TO_ONE, ("a",), on=True, include=("b",)),
        ),
        ("foo + ignoring() group_right bar", VectorMatching(Cardinality.ONE_TO_MANY)),
        ("foo + fill(1m) bar", VectorMatching(fill_lhs=60.0, fill_rhs=60.0)),
        ("foo + fill_right(-1) fill_left(2) bar", VectorMatching(fill_lhs=2.0, fill_rhs=-1.0)),
    ],
)
def test_vectors_are_matched_as_written(query, matching):
    assert parse(query).matching == matching


@pytest.mark.parametrize("query", ["foo + 1", "1 + on() 2", "1 + ignoring() group_left 2"])
def test_there_is_no_matching_where_a_side_is_a_scalar(query):
    assert parse(query).matching is None


@pytest.mark.parametrize(
    "query", ["sum by (a, b) (foo)", "sum(foo) by (a, b)", "SUM BY (a,b,) (foo)"]
)
def test_grouping_may_stand_on_either_side(query):
    assert parse(query) == Aggregate("sum", FOO, grouping=("a", "b"))


def test_an_aggregation_with_a_parameter_has_it_first():
    assert parse("topk without () (5, foo)") == Aggregate("topk", FOO, NumberLiteral(5.0), (), True)


def test_a_call_may_have_a_name_that_is_a_keyword():
    assert parse("start() + step() + max_of(1, 2)").rhs == Call(
        "max_of", (NumberLiteral(1.0), NumberLiteral(2.0))
    )


def test_spans_are_in_bytes_and_cover_modifiers():
    expr = parse('{a="é"} + sum(rate(foo[5m:] offset 1m)) by (x)')
    call = expr.rhs.expr

    assert (expr.span, expr.lhs.span, expr.rhs.span) == (Span(0, 47), Span(0, 8), Span(11, 47))
    assert (call.span, call.args[0].span) == (Span(15, 39), Span(20, 38))


@pytest.mark.parametrize(
    "query",
    [
        "0x1F + 017 + 1_000 + .5 + 5. + 1e3",
        "foo[5m:1m] @ start() offset -(1h + step() * 2)",
        "sum by (start, end, on, bool, group_left, and, offset, fill, smoothed) (foo)",
        "by + without + and_ + start + end + step + range + limitk + anchored + fill",
        '{__name__=~"foo|bar",job="x"}',
        "foo\n  # a comment\n+ bar\t# another",
        "absent(foo) or vector(time())",
        'info(foo, {data=~".*"})',
        'histogram_quantiles(foo, "q", 0.1, 0.2, 0.3)',
        "round(foo) + round(foo, 5) + day_of_week() + day_of_week(foo)",
        'limit_ratio(-0.5, foo) + count_values("v", foo) + quantile(0.5, foo)',
        "foo > bool on (a) group_left () fill_left (NaN) bar",
        "1 == bool 2",
    ],
)
def test_accepted(query):
    parse(query)


A_DURATION = "number, duration, step(), or range()"
A_SELECTOR = "an instant vector selector or range vector selector or a subquery"
NO_SIGN = "unary expression only allowed on expressions of type scalar or instant vector, got "

ERRORS = [
    ("", "unknown position", "no expression found in input"),
    (" # c", "1:1", "no expression found in input"),
    ("foo\nbar", "2:1", 'unexpected identifier "bar"'),
    ("foo bar:baz", "1:5", 'unexpected metric identifier "bar:baz"'),
    ("foo 1", "1:5", 'unexpected number "1"'),
    ("foo 1h", "1:5", 'unexpected duration "1h"'),
    ('foo "a long string"', "1:5", 'unexpected string "\\"a long st"...'),
    ('foo "é"', "1:5", 'unexpected string "\\"é\\""'),
    ('foo "éééééééééé"', "1:5", 'unexpected string "\\"ééééééééé"...'),
    ("foo + ", "1:7", "unexpected end of input"),
    ("1 * * 2", "1:5", "unexpected <op:*>"),
    ("foo and unless bar", "1:16", 'unexpected identifier "bar"'),
    ("foo + bool", "1:11", "unexpected end of input"),
    ("foo == on bar", "1:11", 'unexpected identifier "bar" in grouping opts, expected "("'),
    ("()", "1:2", 'unexpected ")"'),
    ("(foo", "1:5", "unclosed left parenthesis"),
    ("foo)", "1:5", "unexpected right parenthesis ')'"),
    ("foo{", "1:5", "unexpected end of input inside braces"),
    ("foo{a}", "1:6", 'unexpected "}" in label matching, expected label matching operator'),
    ("foo{a=b}", "1:7", 'unexpected identifier "b" in label matching, expected string'),
    ('foo{a=="b"}', "1:7", 'unexpected "=" in label matching, expected string'),
    ('foo{="b"}', "1:5", 'unexpected "=" in label matching, expected identifier or "}"'),
    (
        'foo{a="b" c="d"}',
        "1:11",
        'unexpected identifier "c" in label matching, expected "," or "}"',
    ),
    ('foo{,a="b"}', "1:5", 'unexpected "," in label matching, expected identifier or "}"'),
    ('foo{a=~"("}', "1:5", "error parsing regexp: missing closing ): `(`"),
    ('foo{a!~"*"}', "1:5", "error parsing regexp: missing argument to repetition operator: `*`"),
    ('foo{a="\\q"}', "1:7", "unknown escape sequence U+0071 'q'"),
    ("{}", "1:1", "vector selector must contain at least one non-empty matcher"),
    ('{a=""}', "1:1", "vector selector must contain at least one non-empty matcher"),
    ('{a!="x"}', "1:1", "vector selector must contain at least one non-empty matcher"),
    ('{a=~".*"}', "1:1", "vector selector must contain at least one non-empty matcher"),
    ('{a!~".+"}', "1:1", "vector selector must contain at least one non-empty matcher"),
    ('foo{__name__="bar"}', "1:1", 'metric name must not be set twice: "foo" or "bar"'),
    ('foo{"bar"}', "1:1", 'metric name must not be set twice: "foo" or "bar"'),
    ("foo[", "1:5", "unexpected end of input in duration expression"),
    ("foo[5m", "1:7", "unclosed left bracket"),
    (
        "foo[]",
        "1:5",
        'unexpected "]" in subquery or range selector, expected ' + A_DURATION,
    ),
    ("foo[5m 5m]", "1:8", 'unexpected duration "5m" in subquery or range, expected ":" or "]"'),
    ("foo[5m:5m 5m]", "1:11", 'unexpected duration "5m" in subquery selector, expected "]"'),
    (
        "foo[5m:)]",
        "1:9",
        "unexpected right parenthesis ')'",
    ),
    (
        "foo[5m + *]",
        "1:10",
        "unexpected <op:*> in subquery or range selector, expected " + A_DURATION,
    ),
    ("foo[0]", "1:5", "duration must be greater than 0"),
    ("foo[0h0m]", "1:5", "duration must be greater than 0"),
    ("foo[(0s)]", "1:6", "duration must be greater than 0"),
    ("foo[-5m]", "1:5", "duration must be greater than 0"),
    ("foo[5m:0s]", "1:8", "duration must be greater than 0"),
    ("foo[5m / 0]", "1:8", "division by zero"),
    ("foo[5m % 0]", "1:8", "modulo by zero"),
    ("foo[1e11]", "1:5", "duration out of range"),
    ("foo offset 300y", "1:12", "duration out of range"),
    ("foo offset NaN", "1:12", "duration out of range"),
    ("foo[1.5h]", "1:5", 'unknown unit "." in duration "1.5h"'),
    (
        "1e999",
        "1:1",
        'error parsing number: strconv.ParseFloat: parsing "1e999": value out of range',
    ),
    ("(foo + bar)[5m]", "1:12", "ranges only allowed for vector selectors"),
    ("foo offset 5m[5m]", "1:14", "no offset modifiers allowed before range"),
    ("foo @ 5[5m]", "1:8", "no @ modifiers allowed before range"),
    ("foo @ start()[5m]", "1:14", "no @ modifiers allowed before range"),
    (
        "foo offset",
        "1:11",
        "unexpected end of input in offset, expected " + A_DURATION,
    ),
    (
        "foo offset bar",
        "1:12",
        'unexpected identifier "bar" in offset, expected number, duration, step(), or range()',
    ),
    ("foo offset 1m offset 1m", "1:1", "offset may not be set multiple times"),
    (
        "1 offset 1d",
        "1:1",
        "offset modifier must be preceded by " + A_SELECTOR,
    ),
    ("foo @", "1:6", "unexpected end of input in @, expected timestamp"),
    ("foo @ bar", "1:7", 'unexpected identifier "bar" in @, expected timestamp'),
    ("foo @ start", "1:12", "unexpected end of input in @, expected timestamp"),
    ("foo @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
    ("foo @ Inf", "1:1", "timestamp out of bounds for @ modifier: +Inf"),
    (
        "(foo) @ 1",
        "1:1",
        "@ modifier must be preceded by " + A_SELECTOR,
    ),
    ("foo anchored smoothed", "1:1", "anchored and smoothed modifiers cannot be used together"),
    ("foo[5m:] anchored", "1:1", "anchored modifier is not supported for subqueries"),
    ("1 smoothed", "1:1", "smoothed modifier not implemented"),
    ("sum(foo", "1:8", "unclosed left parenthesis"),
    ("sum(foo bar)", "1:9", 'unexpected identifier "bar" in aggregation'),
    ("sum(rate(foo bar))", "1:14", 'unexpected identifier "bar" in aggregation'),
    ("sum by (a) foo", "1:12", 'unexpected identifier "foo" in aggregation'),
    ("sum foo", "1:5", 'unexpected identifier "foo"'),
    ("sum by (a,,b) (foo)", "1:11", 'unexpected "," in grouping opts, expected label'),
    ("sum by (1) (foo)", "1:9", 'unexpected number "1" in grouping opts, expected label'),
    (
        "sum by (a b) (foo)",
        "1:11",
        'unexpected identifier "b" in grouping opts, expected "," or ")"',
    ),
    (
        "sum without (without) (foo)",
        "1:14",
        "unexpected <without> in grouping opts, expected label",
    ),
    ('sum by ("") (foo)', "1:9", 'invalid label name for grouping: ""'),
    ('sum by ("\\xff") (foo)', "1:9", 'invalid label name for grouping: "\\xff"'),
    ("sum()", "1:1", "no arguments for aggregate expression provided"),
    (
        "sum(foo, 1)",
        "1:1",
        "wrong number of arguments for aggregate expression provided, expected 1, got 2",
    ),
    (
        "topk(foo)",
        "1:1",
        "wrong number of arguments for aggregate expression provided, expected 2, got 1",
    ),
    ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
    (
        "sum(foo[5m])",
        "1:5",
        "expected type instant vector in aggregation expression, got range vector",
    ),
    ("topk(foo, bar)", "1:6", "expected type scalar in aggregation parameter, got instant vector"),
    ("count_values(1, foo)", "1:14", "expected type string in aggregation parameter, got scalar"),
    ("rat(foo)", "1:1", 'unknown function with name "rat"'),
    ("RATE(foo[5m])", "1:1", 'unknown function with name "RATE"'),
    ("foo:bar(1)", "1:8", 'unexpected "("'),
    ("rate(foo[5m],)", "1:13", "trailing commas not allowed in function call args"),
    ("rate(,)", "1:6", 'unexpected ","'),
    ("rate()", "1:1", 'expected 1 argument(s) in call to "rate", got 0'),
    ("rate(foo[5m], 1)", "1:1", 'expected 1 argument(s) in call to "rate", got 2'),
    ("label_join(foo)", "1:1", 'expected at least 3 argument(s) in call to "label_join", got 1'),
    ("round(foo, 1, 2)", "1:1", 'expected at most 2 argument(s) in call to "round", got 3'),
    (
        "rate(foo)",
        "1:6",
        'expected type range vector in call to function "rate", got instant vector',
    ),
    ('rate("a")', "1:6", 'expected type range vector in call to function "rate", got string'),
    ("info(foo, 1)", "1:1", 'expected type instant vector in call to function "info", got scalar'),
    ("info(foo, bar)", "1:11", "expected label selectors only, got vector selector instead"),
    ("info(foo, -bar)", "1:11", "expected label selectors only"),
    (
        '-"a"',
        "1:1",
        NO_SIGN + '"string"',
    ),
    (
        "-foo[5m]",
        "1:1",
        NO_SIGN + '"range vector"',
    ),
    ("1[5m:]", "1:1", "subquery is only allowed on instant vector, got scalar instead"),
    (
        "(foo" + "[5m:]" * 1000,
        "1:2",
        "subquery is only allowed on instant vector, got matrix instead",
    ),
    ("foo[5m][5m:]", "1:1", "subquery is only allowed on instant vector, got matrix instead"),
    ("1 == 2", "1:3", "comparisons between scalars must use BOOL modifier"),
    ("1 + bool 2", "1:3", "bool modifier can only be used on comparison operators"),
    ("1 and 2", "1:1", 'set operator "and" not allowed in binary scalar expression'),
    ("foo or 2", "1:1", 'set operator "or" not allowed in binary scalar expression'),
    ('foo + "a"', "1:7", "binary expression must contain only scalar and instant vector types"),
    ("foo[5m] + 1", "1:1", "binary expression must contain only scalar and instant vector types"),
    ("foo + on(a) 1", "1:1", "vector matching only allowed between instant vectors"),
    ("foo + fill(0) 1", "1:1", "filling in missing series only allowed between instant vectors"),
    ("foo and on(a) group_left bar", "1:1", 'no grouping allowed for "and" operation'),
    ("foo or fill(0) bar", "1:1", "filling in missing series not allowed for set operators"),
    (
        "foo + on(a) group_left(a) bar",
        "1:5",
        'label "a" must not occur in ON and GROUP clause at once',
    ),
    ("foo + group_left bar", "1:7", "unexpected <group_left>"),
    ("foo + fill() bar", "1:12", 'unexpected ")"'),
    ("foo{a='é'} §", "1:13", "unexpected character: '§'"),
    ("foo +\n  bar baz", "2:7", 'unexpected identifier "baz"'),
]


@pytest.mark.parametrize(("query", "position", "message"), ERRORS)
def test_a_mistake_is_reported_where_it_is(query, position, message):
    with pytest.raises(ParseError) as caught:
        parse(query)

    assert str(caught.value) == f"{position}: parse error: {message}"
    assert caught.value.message == message


@pytest.mark.parametrize(
    "query",
    [
        "(" * 10_000 + "foo" + ")" * 10_000,
        "-" * 10_000 + "foo",
        "rate(" * 10_000,
        "sum(" * 10_000 + "foo" + ")" * 10_000,
        "foo ^ " * 10_000 + "foo",
        "foo[" + "(" * 10_000,
        "foo[" + "-" * 10_000 + "1m]",
        "foo[" + "min_of(" * 10_000,
        "foo[" + "1^" * 10_000 + "1m]",
        "foo offset " + "-" * 10_000 + "1m",
        "foo or foo and foo == foo + foo * foo ^ (" * 10_000,
    ],
)
def test_what_is_nested_too_deep_is_refused(query):
    with pytest.raises(ParseError, match=f"query is nested more than {MAX_NESTING} levels deep"):
        parse(query)


@pytest.mark.parametrize(
    "query",
    [
        "(" * (MAX_NESTING - 1) + "foo" + ")" * (MAX_NESTING - 1),
        "sum(" * (MAX_NESTING - 1) + "foo" + ")" * (MAX_NESTING - 1),
        "abs(" * (MAX_NESTING - 1) + "foo" + ")" * (MAX_NESTING - 1),
        "-" * (MAX_NESTING - 1) + "foo",
        "foo ^ " * (MAX_NESTING - 1) + "foo",
    ],
)
def test_trees_as_deep_as_may_be_are_compared_and_hashed(query):
    assert parse(query) == parse(query)
    assert hash(parse(query)) == hash(parse(query))


@pytest.mark.parametrize(
    "query",
    [
        " + ".join(["foo"] * 17_000),
        " + ".join(["1"] * 25_000),
        "sum by (" + ",".join(["label"] * 17_000) + ") (foo)",
        "foo{" + ",".join(f'l{i}="{i}"' for i in range(8_000)) + "}",
        'foo{a="' + "x" * 100_000 + '"}',
        'label_join(foo, "a", "b", ' + ",".join(['"abc"'] * 17_000) + ")",
    ],
    ids=["vectors", "scalars", "labels", "matchers", "string", "arguments"],
)
def test_a_long_flat_query_is_parsed_at_once(query):
    start = time.perf_counter()

    parse(query)

    assert len(query) > 90_000
    assert time.perf_counter() - start < 5  # 0.1 to 0.7 s on two busy cores


def test_matchers_stay_in_their_order_which_makes_no_difference_to_equality():
    tree = parse('{b!="2", a="1"}')

    assert [matcher.name for matcher in tree.matchers] == ["b", "a"]
    assert tree == parse('{a="1", b!="2"}') != parse('{a="1"}')


@pytest.mark.parametrize(
    ("query", "plain"),
    [
        ("foo offset (5m) + 1", "foo offset (5m + 1)"),
        ("foo offset (5m) * 2 + 1", "foo offset (5m * 2 + 1)"),
        ("foo offset --5m + 1", "foo offset (--5m + 1)"),
        ("foo offset (5m) + 1 > bar", "foo offset (5m + 1) > bar"),
        ("foo offset +(5m) + bar", "(foo offset 5m) + bar"),
    ],
)
def test_a_parenthesis_after_offset_is_read_on_from(query, plain):
    found, expected = parse(query), parse(plain)
    if isinstance(expected, Binary) and isinstance(expected.lhs, Paren):
        expected = Binary(expected.op, expected.lhs.expr, expected.rhs, matching=expected.matching)

    assert found == expected
    assert parse(to_text(found)) == found


@pytest.mark.parametrize(
    ("query", "place", "message"),
    [
        (
            "foo offset (5m) + bar",
            "1:19",
            'unexpected identifier "bar" in offset, expected number, duration, step(), or range()',
        ),
        ("foo[5m # all of it\n]", None, None),
        ("foo[5m #", "1:9", "unclosed left bracket"),
        ("foo[ # none\n5m]", "1:6", "unexpected character in duration expression: '#'"),
        (
            "foo[5m @ 3]",
            "1:8",
            'unexpected <op:@> in subquery or range, expected ":" or "]"',
        ),
        ("foo[5m{", "1:7", 'unexpected "{" in subquery or range, expected ":" or "]"'),
        (
            'foo[5m{a="b"}]',
            "1:7",
            'unexpected "{" in subquery or range, expected ":" or "]"',
        ),
        (
            "foo[5m 'a']",
            "1:8",
            'unexpected string "\'a\'" in subquery or range, expected ":" or "]"',
        ),
        ("foo[5m == 3]", "1:8", 'unexpected <op:==> in subquery or range, expected ":" or "]"'),
        ("foo[5m x]", "1:8", "unexpected character: 'x', expected ':'"),
        ("foo[5m $]", "1:8", "unexpected character: '$'"),
        ("foo[5m é]", "1:8", "unexpected character: 'é'"),
        ("foo[1h30$]", "1:5", 'bad number or duration syntax: "1h30"'),
        ("foo[1h30mx]", "1:5", 'bad number or duration syntax: "1h30mx"'),
        (
            "a + on(x) group_left",
            "1:21",
            'unexpected end of input in grouping opts, expected "("',
        ),
        ("a + on(x) group_left ,", "1:22", 'unexpected "," in grouping opts, expected "("'),
        ("foo[5m:1m:1m]", "1:10", "unexpected colon ':'"),
        ("foo[5m[", "1:7", "unexpected left bracket '['"),
        ("foo[[", "1:5", "unexpected character in duration expression: '['"),
        ("foo[5m+(", "1:9", "unclosed left parenthesis"),
        ("foo[step()", "1:11", "unexpected end of input in duration expression"),
        ("info(1, foo)", "1:9", "expected label selectors only, got vector selector instead"),
    ],
)
def test_brackets_are_plain_text_behind_the_first_number(query, place, message):
    if message is None:
        assert parse(query) == parse("foo[5m]")
        return
    with pytest.raises(ParseError) as refusal:
        parse(query)
    assert str(refusal.value) == f"{place}: parse error: {message}"
