"""Both notations of matchers, and which of them counts."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.notify.matchers import (
    Matcher,
    MatcherError,
    Mode,
    in_order,
    matchers_text,
    parse_matcher,
    parse_matchers,
)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = texts.filter(bool)


@given(st.lists(st.tuples(names, st.sampled_from(["=", "!="]), texts), max_size=4))
def test_what_matchers_print_reads_back(parts):
    matchers = tuple(Matcher(*part) for part in parts)

    assert parse_matchers(matchers_text(matchers), Mode.UTF8) == matchers


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a=b", [("a", "=", "b")]),
        (' a =~ "b|c" ', [("a", "=~", "b|c")]),
        ('{a="b",c!="d",}', [("a", "=", "b"), ("c", "!=", "d")]),
        ("a!~x.*", [("a", "!~", "x.*")]),
        ('"größe"="🙂"', [("größe", "=", "🙂")]),
        ('größe="a, b"', [("größe", "=", "a, b")]),
        (r'a="\u00e9\t\"\\"', [("a", "=", 'é\t"\\')]),
        ('"a b"!=c', [("a b", "!=", "c")]),
        ("{}", []),
        ("", []),
    ],
)
def test_the_newer_notation(text, wanted):
    found = parse_matchers(text, Mode.UTF8)

    assert [(m.name, m.operator, m.value) for m in found] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a=", [("a", "=", "")]),
        ("a=b c", [("a", "=", "b c")]),
        (r"a=~\d+", [("a", "=~", r"\d+")]),
        (r'a="x\ny\"z"', [("a", "=", 'x\ny"z')]),
        ("a=b{c", [("a", "=", "b{c")]),
        ('{a=b, c="d,e"}', [("a", "=", "b"), ("c", "=", "d,e")]),
    ],
)
def test_the_classic_notation(text, wanted):
    found = parse_matchers(text, Mode.CLASSIC)

    assert [(m.name, m.operator, m.value) for m in found] == wanted


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("a", Mode.UTF8),
        ("a=", Mode.UTF8),
        ("=b", Mode.UTF8),
        ("{a=b", Mode.UTF8),
        ("a=b}", Mode.UTF8),
        ("{{a=b}}", Mode.UTF8),
        ('a="b', Mode.UTF8),
        (r'a="\q"', Mode.UTF8),
        (r'a="\xff"', Mode.UTF8),
        ("a=b c", Mode.UTF8),
        ("a=b,,c=d", Mode.UTF8),
        ('""=b', Mode.UTF8),
        ("größe=x", Mode.CLASSIC),
        ('a="b"c"', Mode.CLASSIC),
        ('a="b', Mode.CLASSIC),
        ("a=~(", Mode.FALLBACK),
        ("a b", Mode.FALLBACK),
    ],
)
def test_what_is_no_matcher_is_refused(text, mode):
    with pytest.raises(MatcherError):
        parse_matchers(text, mode)


def test_what_only_the_classic_notation_reads_is_read_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = parse_matcher("a=")

    assert found == Matcher("a", "=", "")
    assert '{a=""}' in caplog.text


def test_where_both_notations_differ_the_classic_one_counts(caplog):
    with caplog.at_level(logging.WARNING):
        found = parse_matcher(r'a="\xf0\x9f\x99\x82"')

    assert found.value == r"\xf0\x9f\x99\x82"
    assert "differ" in caplog.text


def test_a_matcher_is_wanted_alone_where_one_is():
    with pytest.raises(MatcherError, match="2 matchers"):
        parse_matcher("a=b,c=d")


@given(st.permutations([("a", "=", "1"), ("a", "!=", "0"), ("b", "=", "")]))
def test_equal_sets_of_matchers_have_one_text(parts):
    matchers = [Matcher(*part) for part in parts]

    assert matchers_text(in_order(matchers)) == '{a!="0",a="1",b=""}'


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ('a=~"x|y"', {"a": "xy"}, False),
        ('a=~"x|y"', {"a": "y"}, True),
        ('a=""', {}, True),
        ('a!~"x"', {}, True),
        ('a=~".*"', {}, True),
        ('a!=""', {}, False),
    ],
)
def test_matchers_see_a_missing_label_as_an_empty_one_and_match_whole_values(text, labels, holds):
    assert parse_matcher(text).matches(labels) is holds
