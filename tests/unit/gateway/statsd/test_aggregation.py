"""Lines add up as StatsD says, whatever is between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway.decoding import Decoding, bits, labels_of
from varve.gateway.negotiation import Version
from varve.gateway.statsd.aggregation import Aggregation
from varve.model.staleness import STALE_BITS

STALE = "stale"


def flushed(aggregation, now_ms=1000):
    """Values by metric and labels."""
    decoding = Decoding()
    decoding.decode(aggregation.flush(now_ms).message().content.tobytes(), Version.V2)
    c = decoding.columns
    return {
        (*(v for k, v in labels_of(decoding.definitions[int(c.ids[n])])), int(c.ts[n])): STALE
        if bits(c.values[n]) == STALE_BITS
        else float(c.values[n])
        for n in range(c.rows)
    }


@given(st.lists(st.integers(0, 2**30), max_size=30), st.data())
def test_counts_are_the_same_however_lines_are_packed_into_packets(values, data):
    aggregation = Aggregation()
    lines = [f"a:{value}|c" for value in values]
    while lines:
        size = data.draw(st.integers(1, len(lines)))
        aggregation.take("\n".join(lines[:size]).encode(), 0)
        del lines[:size]

    total = float(sum(values))
    assert flushed(aggregation) == ({("a", 1000): total} if values else {})
    assert flushed(aggregation, 2000) == ({("a", 2000): total} if values else {})


@given(st.binary(max_size=80))
def test_any_bytes_are_lines_or_refused(packet):
    aggregation = Aggregation()
    aggregation.take(packet, 0)

    assert aggregation.rejected <= aggregation.lines
    aggregation.flush(1000).message()


PARTS = ["a", ":", "1", "|", "c", "g", "ms", "s", "@", "0.5", "#", "k:v", ",", "\n", "T1", "-", "é"]


@given(st.lists(st.sampled_from(PARTS), max_size=16))
def test_any_pieces_of_lines_are_lines_or_refused(parts):
    aggregation = Aggregation()
    aggregation.take("".join(parts).encode(), 0)

    values = flushed(aggregation)
    assert aggregation.rejected <= aggregation.lines
    assert not values or aggregation.lines


WORDS = st.tuples(
    st.sampled_from(["a", "b", "web.a", "9", ""]),
    st.sampled_from(
        ["1", "0.25", "7.", ".5", "-1", "+2", "1e3", "1e999", "nan", "", "1:2", "x", "1_0"]
    ),
    st.sampled_from(
        ["c", "g", "ms", "h", "s", "q", "c|@0.5", "h|@0.1", "c|#k:v", "g|#k:v,le:1", "c|T9"]
    ),
)


@given(st.lists(st.lists(WORDS, max_size=6), max_size=8))
def test_a_line_counts_the_same_however_often_one_like_it_was_here(packets):
    aggregation, reference = (Aggregation((0.5, 1.0), forgotten_after_ms=3_000) for _ in range(2))
    number = 0
    for second, lines in enumerate(packets):
        aggregation.take(
            "\n".join(f"{n}:{v}|{rest}" for n, v, rest in lines).encode(), second * 1000
        )
        for name, value, rest in lines:
            number += 1  # no line is like another, but this section says nothing
            reference.take(f"{name}:{value}|{rest}|card:{number}".encode(), second * 1000)

        now_ms = second * 1000 + 999
        assert flushed(aggregation, now_ms) == flushed(reference, now_ms)
        assert aggregation.rejected == reference.rejected
        assert aggregation.lines == reference.lines


def test_a_silent_series_ends_and_its_name_may_have_another_kind():
    aggregation = Aggregation(forgotten_after_ms=5_000)
    aggregation.take(b"a:1|c", 0)
    aggregation.take(b"b:1|g", 4_000)
    assert flushed(aggregation, 4_000) == {("a", 4_000): 1.0, ("b", 4_000): 1.0}

    assert flushed(aggregation, 5_000) == {("a", 5_000): STALE, ("b", 5_000): 1.0}
    aggregation.take(b"a:2|g", 6_000)
    assert flushed(aggregation, 6_000) == {("a", 6_000): 2.0, ("b", 6_000): 1.0}


def test_sets_begin_anew_with_each_flush():
    aggregation = Aggregation()
    aggregation.take(b"a:x|s\na:y|s", 0)

    assert flushed(aggregation, 1000) == {("a", 1000): 2.0}
    assert flushed(aggregation, 2000) == {("a", 2000): 0.0}


def test_there_are_no_more_series_than_allowed():
    aggregation = Aggregation(most=1)
    aggregation.take(b"a:1|c\nb:1|c\na:1|c", 0)

    assert aggregation.rejected == 1
    assert "room" in aggregation.last_problem
    assert flushed(aggregation) == {("a", 1000): 2.0}
