"""Bodies are read the same from memory as line by line, whatever was read before."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.gateway.exposition.formats import OPEN_METRICS, TEXT, parse
from varve.gateway.exposition.known_lines import InvalidBody, KnownLines
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.kernel_numbers import decimal
from varve.model.compiled import kernel
from varve.promql.histograms.native_histogram import FloatHistogram

LINES = [
    "# TYPE a counter",
    "# TYPE a histogram",
    "# TYPE a summary",
    "# TYPE b gauge",
    "# TYPE a untyped",
    "# HELP a A.",
    "# HELP a \\n.",
    "# UNIT a_s s",
    "# a comment",
    "#",
    "",
    "# TYPE a nothing",
    "# EOF",
    " # HELP a B.",
    "\0",
    *["{series} {value}"] * 5,
    "{series} {value} 17",
    "{series}\t{value}",
    " {series} {value}",
    "{series} {value} ",
    '{series} {value} # {{trace_id="x"}} 1',
    "{series}",
    "{value}",
]
SERIES = [
    "a",
    "a_total",
    "a_created",
    "b",
    'a_bucket{le="1"}',
    'a_bucket{le="1.0"}',
    'a{quantile="0.50"}',
    'a_total{x="1"}',
    'a_created{x="1"}',
    '{"a b"}',
    'a{x=" 1"}',
    'a{x="\\n"}',
    'a{x=""}',
    'a{x="1",x="2"}',
    'a{x="é\n"}',
    "a{",
]
VALUES = [
    "1",
    "-0",
    "1.5e-07",
    "NaN",
    "+Inf",
    "-Inf",
    "1e400",
    "0.1",
    "1_0",
    "0x1",
    "x",
    "1.7e9",
    "123456789012345678901",
]

bodies = st.lists(
    st.tuples(st.sampled_from(LINES), st.sampled_from(SERIES), st.sampled_from(VALUES)).map(
        lambda parts: (
            parts[0].format(series=parts[1], value=parts[2])
            if "{series}" in parts[0] or "{value}" in parts[0]
            else parts[0]
        )
    ),
    max_size=8,
)


def told(sample):
    value = sample.value
    shown = value if isinstance(value, FloatHistogram) else struct.pack("<d", value)
    return (
        tuple(sample.labels), shown, sample.ts_ms, sample.start_ms, tuple(sample.exemplars),
        sample.family,
    )  # fmt: skip


def by_the_reader(body, kind):
    """Samples, metadata, and why the body is refused."""
    try:
        found = parse(body, kind)
    except InvalidExposition as bad:
        # When something was created is told at the end alone.
        return [told(s)[:3] for s in bad.before], None, str(bad)
    return [told(s) for s in found.samples], found.metadata, ""


def from_memory(known, body, kind):
    try:
        found = known.read(body, kind)
    except InvalidBody as bad:
        return [told(s)[:3] for s in known.samples(bad.columns)], None, str(bad)
    return [told(s) for s in known.samples(found)], found.metadata, ""


@settings(max_examples=200)
@given(st.lists(bodies, max_size=5), st.sampled_from([TEXT, OPEN_METRICS]))
def test_what_was_read_before_changes_nothing(several, kind):
    known = KnownLines()
    for lines in several:
        body = "\n".join([*lines, *(["# EOF\n"] if kind == OPEN_METRICS else [])]).encode()
        for _ in range(2):
            assert from_memory(known, body, kind) == by_the_reader(body, kind)


@given(st.lists(st.binary(max_size=40), max_size=4), st.sampled_from([TEXT, OPEN_METRICS]))
def test_any_bytes_between_known_lines_are_read_as_by_the_reader(pieces, kind):
    known = KnownLines()
    known.read(b'# TYPE a counter\na_total{x="1"} 1\n# EOF\n', kind)
    line = b'a_total{x="1"} 25\n'
    body = b"# TYPE a counter\n" + line + line.join(pieces) + line + b"# EOF\n"

    assert from_memory(known, body, kind) == by_the_reader(body, kind)


@kernel("boolean(const uint8[::1], float64[::1])")
def told_decimal(data, found):
    found[0], is_told = decimal(data, 0, len(data))
    return is_told


decimals = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.from_regex(r"[+-]?[0-9]{1,19}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    # In the middle of two doubles, and beside it.
    st.builds(
        lambda m, e, d: f"{(2 * (m | 1 << 52) + 1) * 5**e * 10 + d}e-{e + 1}",
        st.integers(0, (1 << 52) - 1), st.integers(0, 2), st.integers(-1, 1),
    ),
    st.sampled_from(["NaN", "+Inf", "-Inf", "Inf", "5.", ".5", "-.5e1"]),
)  # fmt: skip


@settings(max_examples=200)
@given(decimals)
def test_a_decimal_that_a_kernel_tells_is_the_nearest_double(text):
    found = np.empty(1)
    if told_decimal(np.frombuffer(text.encode(), np.uint8), found):
        assert struct.pack("<d", found[0]) == struct.pack("<d", float(text))
    else:  # too many digits, too large or too small
        assert len(text) > 19 or not 1e-300 < abs(float(text)) < 1e300


@given(st.text("0123456789+-.eEinfaNI_x ", max_size=8))
def test_a_kernel_tells_no_number_where_there_is_none(text):
    found = np.empty(1)
    if text and told_decimal(np.frombuffer(text.encode(), np.uint8), found):
        assert text == text.strip()
        assert "_" not in text
        assert struct.pack("<d", found[0]) == struct.pack("<d", float(text))
