import pytest

from varve.promql.syntax.lexer import tokenize
from varve.promql.syntax.tokens import (
    DURATION,
    END,
    ERROR,
    METRIC_NAME,
    NAME,
    NUMBER,
    STRING,
)


def kinds(query):
    return tokenize(query).kinds


def last(query):
    tokens = tokenize(query)
    return tokens.kinds[-1], tokens.starts[-1], tokens.error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("foo", NAME),
        ("_foo9", NAME),
        ("foo:bar", METRIC_NAME),
        (":foo", METRIC_NAME),
        ("SUM", "sum"),
        ("Group_Left", "group_left"),
        ("1.5e-3", NUMBER),
        ("5.", NUMBER),
        (".5", NUMBER),
        ("0x1F", NUMBER),
        ("0x_1f", NUMBER),
        ("1_000", NUMBER),
        ("Inf", NUMBER),
        ("nAn", NUMBER),
        ("1h30m", DURATION),
        ("5ms", DURATION),
        ("5hs", DURATION),  # no unit, which the parser says
        ('"a\\"b"', STRING),
        ("'a\\'b'", STRING),
        ("`a\\`", STRING),
        ("</", "</"),
        (">=", ">="),
    ],
)
def test_one_token_is_known(text, kind):
    tokens = tokenize(f" {text} # comment")

    assert tokens.kinds == [kind, END]
    assert tokens.text[tokens.starts[0] : tokens.ends[0]] == text


def test_keywords_in_braces_are_names():
    assert kinds('{sum="x",by!~"y"}') == ["{", NAME, "=", STRING, ",", NAME, "!~", STRING, "}", END]


def test_fill_is_a_keyword_only_before_a_parenthesis():
    assert kinds("fill + fill_left (0)") == [NAME, "+", "fill_left", "(", NUMBER, ")", END]


def test_colons_separate_in_brackets_only():
    assert kinds("a:b[5m:1m]") == [METRIC_NAME, "[", DURATION, ":", DURATION, "]", END]


def test_positions_are_bytes():
    tokens = tokenize('{a="é"} + foo')

    assert tokens.starts[:-1] == [0, 1, 2, 3, 7, 9, 11]


def test_comments_end_at_either_line_end():
    assert kinds("a # +\r + # b\n b") == [NAME, "+", NAME, END]


@pytest.mark.parametrize(
    ("query", "start", "message"),
    [
        ("=~", 0, "unexpected character after '=': '~'"),
        ("a !b", 2, "unexpected character after '!': 'b'"),
        ("a !", 2, "unexpected character after '!': '�'"),
        ("a $", 2, "unexpected character: '$'"),
        ("a é", 2, "unexpected character: 'é'"),
        ("a ;", 2, "unexpected character: ';'"),
        (".", 0, "unexpected character: '.'"),
        ("(a", 2, "unclosed left parenthesis"),
        ("a)", 2, "unexpected right parenthesis ')'"),
        ("a]", 1, "unexpected right bracket ']'"),
        ("a[", 2, "unexpected end of input in duration expression"),
        ("a[5m", 4, "unclosed left bracket"),
        ("a[x]", 2, "unexpected character in duration expression: 'x'"),
        ("a[sum]", 2, "unexpected character in duration expression: 's'"),
        ("a[$__interval]", 2, "unexpected character in duration expression: '$'"),
        ("a[5m x]", 5, "unexpected character: 'x', expected ':'"),
        ("a[5m[", 4, "unexpected left bracket '['"),
        ("a[:5m]", 3, "unexpected colon before duration in duration expression"),
        ("a[5m::]", 5, "unexpected colon ':'"),
        ("a{", 2, "unexpected end of input inside braces"),
        ("a{b!c}", 3, "unexpected character after '!' inside braces: 'c'"),
        ("a{b=1}", 4, "unexpected character inside braces: '1'"),
        ("a{{}", 2, "unexpected left brace '{'"),
        ('"a', 0, "unterminated quoted string"),
        ('"a\nb"', 0, "unterminated quoted string"),
        ("`a\n", 0, "unterminated raw string"),
        ('"\\q"', 0, "unknown escape sequence U+0071 'q'"),
        ('"\\\'"', 0, "unknown escape sequence U+0027 '''"),
        ('"\\xg0"', 0, "illegal character U+0067 'g' in escape sequence"),
        ('"\\400"', 0, "escape sequence is an invalid Unicode code point"),
        ('"\\ud800"', 0, "escape sequence is an invalid Unicode code point"),
        ('"\\U00110000"', 0, "escape sequence is an invalid Unicode code point"),
        ('"\\', 0, "escape sequence not terminated"),
        ('"\udcff"', 0, "invalid UTF-8 rune"),
        ("1.2.3", 0, 'bad number or duration syntax: "1.2."'),
        ("1e", 0, 'bad number or duration syntax: "1e"'),
        ("1_", 0, 'bad number or duration syntax: "1_"'),
        ("0xz", 0, 'bad number or duration syntax: "0x"'),
        ("1h1y", 0, 'bad number or duration syntax: "1h1"'),
        ("5mx", 0, 'bad number or duration syntax: "5mx"'),
    ],
)
def test_what_is_no_token_ends_the_list_with_the_reason(query, start, message):
    assert last(query) == (ERROR, start, message)


def test_an_unterminated_string_takes_time_in_proportion_to_its_length():
    assert last('"' + "ab\\n" * 50_000)[2] == "unterminated quoted string"
