import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.result_json import floats, seconds


def as_go(value):
    """What Go's strconv prints, by way of Python's own shortest digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).lstrip("0").rstrip("0") or "0"
    trailing = len("".join(map(str, digits))) - len("".join(map(str, digits)).rstrip("0"))
    exponent += trailing if text != "0" else 0
    minus = "-" if sign else ""
    if text == "0":
        return minus + "0"
    if abs(value) < 1e-6 or abs(value) >= 1e21:
        power = exponent + len(text) - 1
        rest = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return minus + format(Decimal((0, tuple(map(int, text)), exponent)), "f")


@given(st.lists(st.floats(), min_size=1, max_size=50))
def test_floats_are_written_with_the_shortest_digits_that_read_back(values):
    written = [text.decode() for text in floats(np.array(values))]

    assert written == [as_go(value) for value in values]


def test_powers_of_two_and_ten_are_written_exactly():
    values = [2.0**k for k in range(-1074, 1024)] + [10.0**k for k in range(-323, 309)]

    written = [text.decode() for text in floats(np.array(values))]

    assert written == [as_go(value) for value in values]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"-0"),
        (1e21, b"1e+21"),
        (123456789012345680000.0, b"123456789012345680000"),
        (1e-6, b"0.000001"),
        (9.99e-7, b"9.99e-07"),
        (5e-324, b"5e-324"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (math.inf, b"+Inf"),
        (-math.inf, b"-Inf"),
        (math.nan, b"NaN"),
    ],
)
def test_floats_look_as_prometheus_writes_them(value, text):
    assert floats(np.array([value])) == [text]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, b"0"), (1500, b"1.500"), (-1, b"-0.001"), (1_435_781_430_781, b"1435781430.781")],
)
def test_times_are_seconds_with_three_decimals_or_none(ms, text):
    assert seconds(ms) == text


def test_whole_numbers_are_written_as_floats():
    assert floats(np.array([3, -2])) == [b"3", b"-2"]
