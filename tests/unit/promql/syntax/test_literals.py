import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.syntax.literals import (
    duration_ms,
    format_duration,
    format_number,
    parse_duration,
    parse_number,
    quote,
    unquote,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("0x1f", 31.0),
        ("0X_1F", 31.0),
        ("017", 15.0),
        ("08", 8.0),  # no octal number, so a decimal one
        ("1_000", 1000.0),
        ("1e3", 1000.0),
        ("5.", 5.0),
        ("Inf", math.inf),
        ("9223372036854775808", 2.0**63),
    ],
)
def test_a_number_is_read_in_every_base(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1e999", "value out of range"),
        ("0x", "invalid syntax"),
        ("0x8000000000000000", "invalid syntax"),
    ],
)
def test_a_number_too_large_or_none_is_refused(text, reason):
    with pytest.raises(ValueError, match=f'strconv.ParseFloat: parsing "{text}": {reason}'):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400.0),
        ("1y2w3d4h5m6s7ms", 33019506.007),
        ("5ms", 0.005),
        ("90d", 7776000.0),
        ("0s", 0),
    ],
)
def test_a_duration_is_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a valid duration string"),
        ("30m1h", "not a valid duration string"),
        ("5m5m", "not a valid duration string"),
        ("5hs", 'unknown unit "hs"'),
        ("1.5h", 'unknown unit "."'),
        ("293y", "duration out of range"),
    ],
)
def test_a_malformed_duration_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5400, "1h30m"),
        (7776000, "90d"),
        (1209600, "2w"),
        (31536000, "1y"),
        (0.001, "1ms"),
        (-300, "-5m"),
        (0, "0s"),
    ],
)
def test_a_duration_is_printed_in_the_largest_units(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(1, 2**43))
def test_whole_milliseconds_survive_seconds_as_floats(ms):
    assert duration_ms(ms / 1000) == ms
    assert parse_duration(format_duration(ms / 1000)) == ms / 1000


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_reads_back_and_has_no_exponent(value):
    text = format_number(value)

    assert float(text) == value
    assert "e" not in text


def test_numbers_print_as_go_prints_them():
    shown = [1.0, 0.1, 1e21, 1e-7, -0.0, math.inf, -math.inf, math.nan]

    assert [format_number(value) for value in shown] == [
        "1",
        "0.1",
        "1000000000000000000000",
        "0.0000001",
        "-0",
        "+Inf",
        "-Inf",
        "NaN",
    ]


@given(st.binary(max_size=40))
def test_a_quoted_string_has_the_bytes_of_the_string(raw):
    text = raw.decode("utf-8", "surrogateescape")

    assert unquote(quote(text).encode().decode("latin-1")) == text


def test_strings_quote_as_go_quotes_them():
    assert quote('a"\\\n\x00\x7f\u00ad\udcc5é') == '"a\\"\\\\\\n\\x00\\x7f\\u00ad\\xc5é"'


def test_escapes_are_bytes_until_the_string_is_whole():
    assert unquote(r'"\xc3\xa9\303\251\u00e9"') == "ééé"
