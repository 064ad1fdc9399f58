"""The parser against the conformance scripts and against promql-parser, a port of upstream's."""

import json
import random
import re
import sys
from pathlib import Path

import promql_parser
import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.promql.strategies import expressions
from varve.promql.syntax.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    MatrixSelector,
    NumberLiteral,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.cursor import ParseError
from varve.promql.syntax.literals import duration_ms
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text
from varve.promql.syntax.tree import walk

SHARED = Path(__file__).parents[5] / "shared"
SCRIPTS = SHARED / "promqltest"

FUNCTIONS_NOT_IN_ORACLE = {"end", "info", "max_of", "min_of", "range", "start", "step"} | {
    "start_timestamp"
}
LENIENT_ORACLE = {
    "duration must be greater than 0": "takes ranges of 0",
    "duration out of range": "takes ranges beyond 292 years",
    "in aggregation parameter, got": "does not check the parameter of limitk and limit_ratio",
    "unary expression only allowed on": "drops a sign before strings and ranges",
    'expected type instant vector in call to function "': "takes a negative number for a vector",
}
"""Why it accepts what is refused here, by the error here."""
STRICT_ORACLE = {
    "is not valid label in grouping opts": "knows no labels in UTF-8",
    "invalid promql query": "knows no parentheses after offset",
}
"""Why it refuses what is accepted here, by its error; newer language aside."""


@pytest.fixture(scope="module")
def corpus():
    """Every query of the scripts and of the compliance list, with whether it must fail."""
    if not SCRIPTS.is_dir():
        pytest.skip(f"the conformance scripts are not there: {SCRIPTS}")
    sys.path.insert(0, str(SHARED))
    try:
        from promqltest.script import Eval, parse_script
    finally:
        sys.path.remove(str(SHARED))
    files = [*sorted((SCRIPTS / "testdata").glob("*.test")), SCRIPTS / "compliance.test"]
    commands = [command for file in files for command in parse_script(file.read_text())]
    found = {c.expr: c.fail is not None for c in commands if isinstance(c, Eval)}
    for query in json.loads((SCRIPTS / "compliance-queries.json").read_text()):
        found.setdefault(query["query"], query["should_fail"])
    return found


def tried(query):
    """The tree, and the error where there is none."""
    try:
        return parse(query), ""
    except ParseError as error:
        return None, error.message


def oracle(query):
    """The other parser's tree, printed, and its error where there is none."""
    try:
        return promql_parser.parse(query).prettify(), ""
    except ValueError as error:
        return None, str(error)


def is_known_to_oracle(expr):
    return not any(map(is_newer_than_oracle, walk(expr)))


def is_newer_than_oracle(node):
    match node:
        case VectorSelector(offset=offset):
            is_keyword = node.name.lower() in ("anchored", "smoothed")  # no names there
            extended = node.anchored or node.smoothed
            return is_keyword or extended or isinstance(offset, DurationExpr)
        case MatrixSelector(range=duration):
            return isinstance(duration, DurationExpr)
        case Subquery():
            durations = (node.range, node.step, node.offset)
            return any(isinstance(duration, DurationExpr) for duration in durations)
        case Call(func=name):
            return name in FUNCTIONS_NOT_IN_ORACLE
        case Binary(op=op):
            return op in ("</", ">/")
    return False


def is_printed_by_oracle(expr):
    """Whether what it prints is what it has read."""
    return all(map(_is_printed, walk(expr)))


def _is_printed(node):
    match node:
        case Unary(op="+"):
            return False  # dropped
        case Aggregate(grouping=labels):
            return all(map(_is_plain_label, labels))
        case Binary(matching=VectorMatching() as matching):
            # It prints no ignoring () before group_left.
            grouped = matching.cardinality in (Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY)
            lost = grouped and not matching.labels and not matching.on
            return not lost and all(map(_is_plain_label, matching.labels + matching.include))
        case NumberLiteral():
            return not node.is_duration  # becomes a number
        case StringLiteral(value=value):
            return _is_plain(value)  # bytes become code points
        case VectorSelector():
            texts = [matcher.value for matcher in node.matchers]
            plain = all(map(_is_plain, texts))
            return plain and _is_in_ms(node.offset) and not _is_before_1970(node.at)
        case MatrixSelector(range=duration):
            return _is_in_ms(duration)
        case Subquery():
            in_ms = all(map(_is_in_ms, (node.range, node.step, node.offset)))
            return in_ms and not _is_before_1970(node.at)
    return True


def _is_before_1970(at):
    return at is not None and isinstance(at.at, int) and at.at < 0  # printed as 0


def _is_plain(text):
    return text.isascii() and text.isprintable()


def _is_plain_label(label):
    """Others are printed without quotes."""
    return label.isidentifier() and label.isascii() and label.lower() not in ("inf", "nan")


def _is_in_ms(duration):
    return duration is None or duration_ms(duration.value) / 1000 == duration.value


def test_every_query_parses_unless_it_is_to_fail(corpus):
    refused = {}
    for query in corpus:
        expr, error = tried(query)
        if expr is None:
            refused[query] = error
        else:
            assert parse(to_text(expr)) == expr

    assert len(corpus) > 1500
    assert refused == {
        '{__name__=~".*"}': "vector selector must contain at least one non-empty matcher"
    }
    assert all(corpus[query] for query in refused)


def test_the_other_parser_sees_the_same_trees(corpus):
    compared = 0
    for query in corpus:
        expr, _ = tried(query)
        printed, error = oracle(query)
        if expr is None or printed is None:
            assert expr is None or not is_known_to_oracle(expr), (query, error)
        elif is_printed_by_oracle(expr):
            assert parse(printed) == expr, query
            compared += 1
    assert compared > 1300


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(expressions(depth=3))
def test_the_other_parser_sees_the_same_random_trees(expr):
    if not is_known_to_oracle(expr):
        return
    printed, error = oracle(to_text(expr))

    assert printed is not None, (to_text(expr), error)
    if is_printed_by_oracle(expr):
        assert parse(printed) == expr, to_text(expr)


def test_the_other_parser_refuses_the_same_mistakes(corpus):
    agreed = {True: 0, False: 0}
    for query in mutations([query for query in corpus if oracle(query)[0]], 6_000):
        expr, error = tried(query)
        printed, reason = oracle(query)
        if (expr is None) == (printed is None):
            agreed[expr is None] += 1
        elif expr is None:
            assert any(text in error for text in LENIENT_ORACLE), (query, error)
        elif is_known_to_oracle(expr):
            assert any(text in reason for text in STRICT_ORACLE), (query, reason)
    assert min(agreed.values()) > 500


TOKEN = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|\w+|[<>=!~]+|.", re.DOTALL)


def mutations(queries, count):
    """Queries with one to three tokens changed, put in or taken out; the same on every run."""
    source = random.Random(1)
    split = [TOKEN.findall(query) for query in queries]
    pool = [token for tokens in split for token in tokens if not token.isspace()]
    for _ in range(count):
        tokens = list(source.choice(split))
        for _ in range(source.choice([1, 1, 2, 3])):
            place = source.randrange(len(tokens) + 1)
            kind = source.random()
            if kind < 0.6:
                tokens[place : place + (kind < 0.4)] = [source.choice(pool)]
            else:
                del tokens[place : place + 1]
        yield "".join(tokens)
