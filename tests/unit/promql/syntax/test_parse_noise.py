"""Any text gives a tree or an error with its place."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.promql.syntax.cursor import ParseError
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text

SYMBOLS = [*list("(){}[],`=<>+-*/%^:@#\n\\é$"), "!=", "=~", "!~", "==", "<=", ">=", "</", ">/"]
WORDS = ["foo", "a:b", "sum", "topk", "rate", "by", "without", "offset", "on", "ignoring", "bool"]
WORDS += ["group_left", "group_right", "fill", "fill_left", "and", "or", "unless", "atan2", "inf"]
WORDS += ["anchored", "smoothed", "start", "end()", "step()", "range", "min_of", "info", "__name__"]
LITERALS = ["1", ".5", "0x1", "1e", "5m", "1h30m", "5.5h", '"x"', "'y'", '"\\xff"', '"(', "`a`"]

noise = st.lists(st.sampled_from(SYMBOLS + WORDS + LITERALS), max_size=30).map(" ".join)
texts = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@settings(max_examples=500)
@given(noise)
def test_any_sequence_of_tokens_is_judged(query):
    judge(query)


@settings(max_examples=500)
@given(texts)
def test_any_text_is_judged(query):
    judge(query)


@pytest.mark.parametrize("query", ["\ud800", '"\ud800"', "\x00", "foo\ufeff", "{a='\udc80\udc81'}"])
def test_what_is_no_utf8_is_an_error(query):
    with pytest.raises(ParseError):
        parse(query)


def judge(query):
    try:
        expr = parse(query)
    except ParseError as error:
        refusal = error
    else:
        assert parse(to_text(expr)) == expr
        return
    size = len(query.encode("utf-8", "surrogateescape"))
    assert 0 <= refusal.span.start <= refusal.span.end <= size
    assert re.match(r"(\d+:\d+|unknown position): parse error: .", str(refusal))
