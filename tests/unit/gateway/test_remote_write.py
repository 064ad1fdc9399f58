"""Every request gives what protobuf's bindings read in it: known series or new, in any order."""

from __future__ import annotations

import contextlib
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.remote_writing import V1, V2, write_request, write_request_v2
from tests.unit.gateway.decoding import ANY_TIME, NOW_MS, Decoding, bits, labels_of
from varve.gateway.decoded import Bounds
from varve.gateway.first_sight import Input, Targets
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import delimited_field, fields, write_varint
from varve.gateway.refusals import Malformed, Refusal, Refused
from varve.ingest.limits import Limits, MetricLimits
from varve.model.identity import define
from varve.model.staleness import STALE_BITS

STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]

# Mostly what needs no second look, and what is close to needing one.
texts = st.text('abAB_09\\"\n,={}:/ ', min_size=1, max_size=8) | st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=20
)
values = st.floats() | st.just(STALE) | st.sampled_from([0.0, -0.0, 5e-324])
times = st.integers(-(2**62), 2**62) | st.integers(NOW_MS - 1000, NOW_MS)
names = st.text("ab_", min_size=1, max_size=4) | texts
label_sets = st.dictionaries(
    names.filter(lambda name: name != "__name__"), texts | st.just(""), max_size=6
).flatmap(lambda tags: names.map(lambda name: {"__name__": name} | tags))
series = st.tuples(label_sets, st.lists(st.tuples(times, values), min_size=1, max_size=4))
requests = st.lists(series, max_size=5)


def expected(body, version):
    """What the bindings read in a request, as `Decoding.rows` has it."""
    rows = []
    if version is Version.V1:
        for one in V1["WriteRequest"].FromString(body).timeseries:
            rows += [(_kept(one.labels), s.timestamp, bits(s.value)) for s in one.samples]
        return sorted(rows)
    request = V2["Request"].FromString(body)
    for one in request.timeseries:
        texts = [request.symbols[ref] for ref in one.labels_refs]
        labels = tuple(sorted((n, v) for n, v in zip(texts[::2], texts[1::2], strict=True) if v))
        rows += [(labels, s.timestamp, bits(s.value)) for s in one.samples]
    return sorted(rows)


def _kept(labels):
    return tuple(sorted((one.name, one.value) for one in labels if one.value))


def shuffled(message, rng, numbers):
    """The same message with its fields in another order; those of `numbers` likewise within, and
    with fields nobody knows.
    """
    parts = []
    for found in fields(message):
        if found.number in numbers:
            inner = shuffled(found.content, rng, numbers[found.number])
            parts.append(delimited_field(found.number, inner))
        else:
            parts.append(found.raw)
    if rng.random() < 0.3:
        parts.append(delimited_field(1999, b"unknown"))
        parts.append(write_varint(77 << 3) + write_varint(2**63))
    # The order of labels and of samples among themselves means something to nobody.
    rng.shuffle(parts)
    return b"".join(parts)


@given(requests)
def test_a_request_holds_what_the_bindings_read_whether_its_series_are_new_or_known(sent):
    body = write_request(sent)
    decoding = Decoding()

    for _ in range(2):
        found = decoding.decode(body)

        assert decoding.rows() == expected(body, Version.V1)
        assert found.refusals.count == 0
        assert found.samples == sum(len(points) for _, points in sent)
    assert not found.definitions


@given(requests)
def test_so_does_a_request_of_version_2(sent):
    body = write_request_v2(sent)
    decoding = Decoding()

    for _ in range(2):
        found = decoding.decode(body, Version.V2)

        assert decoding.rows() == expected(body, Version.V2)
        assert found.refusals.count == 0
    assert not found.definitions


@given(requests, st.integers(0, 2**32))
def test_fields_in_any_order_give_the_same(sent, seed):
    rng = random.Random(seed)
    first = write_request(sent)
    body = shuffled(first, rng, {1: {1: {}, 2: {}}})
    second = shuffled(write_request_v2(sent), rng, {5: {2: {}}})
    # Symbols keep their order: references count them.
    symbols = b"".join(f.raw for f in fields(write_request_v2(sent)) if f.number == 4)
    second = symbols + b"".join(f.raw for f in fields(second) if f.number != 4)
    decoding = Decoding()

    for _ in range(2):
        decoding.decode(body)
        assert decoding.rows() == expected(first, Version.V1)
        decoding.decode(second, Version.V2)
        assert decoding.rows() == expected(first, Version.V1)


@given(requests)
def test_ids_targets_and_definitions_are_those_of_the_identity_of_series(sent):
    decoding = Decoding(Targets(7))

    found = decoding.decode(write_request(sent))

    for target, definition in found.definitions:
        labels = dict(labels_of(definition))
        again = define(labels.pop("__name__"), labels)
        assert again == definition
        assert target == definition.series_id % 7
    columns = decoding.columns
    for n in range(columns.rows):
        definition = decoding.definitions[int(columns.ids[n])]
        assert columns.checks[n] == definition.check
        assert columns.targets[n] == definition.series_id % 7


@given(st.binary(max_size=300), st.sampled_from(Version))
def test_any_bytes_are_samples_or_refused(body, version):
    decoding = Decoding()
    with contextlib.suppress(Refused):
        found = decoding.decode(body, version)
        assert found.samples == decoding.columns.rows
        return
    assert decoding.columns.rows == 0


@settings(max_examples=300)
@given(requests, st.data(), st.sampled_from(Version))
def test_a_damaged_request_is_what_its_bytes_say_or_refused(sent, data, version):
    write = write_request if version is Version.V1 else write_request_v2
    body = bytearray(write(sent) or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    decoding = Decoding()

    try:
        found = decoding.decode(bytes(body), version)
    except Malformed:
        assert decoding.columns.rows == 0
    else:
        assert found.samples == decoding.columns.rows


def test_a_request_cut_anywhere_leaves_nothing_behind():
    whole = write_request([({"__name__": "up", "job": "node"}, [(NOW_MS, 1.0)])])
    decoding = Decoding()

    for size in range(1, len(whole)):
        with pytest.raises(Malformed):
            decoding.decode(whole[:size])
        assert decoding.columns.rows == 0
    assert decoding.decode(whole).definitions


def test_bad_series_are_named_and_the_others_taken():
    body = write_request(
        [
            ({"job": "no name"}, [(NOW_MS, 1.0)]),
            ({"__name__": "good"}, [(NOW_MS, 1.0), (NOW_MS + 1, 2.0)]),
            *[({"job": str(n)}, [(NOW_MS, 1.0)]) for n in range(9)],
        ]
    )
    decoding = Decoding()

    found = decoding.decode(body)

    assert [labels for labels, _, _ in decoding.rows()] == [(("__name__", "good"),)] * 2
    assert found.refusals.samples == {Refusal.INVALID_LABELS: 10}
    assert "{job='no name'} has no metric name" in found.refusals.text()
    assert found.refusals.text().endswith("; and 5 more")
    assert found.received() == 12


def test_samples_beyond_the_bounds_of_time_are_counted_and_the_first_is_named():
    body = write_request(
        [
            ({"__name__": "a"}, [(0, 1.0), (50, 1.0), (100, 1.0), (101, 1.0)]),
            ({"__name__": "b"}, [(49, 1.0)]),
        ]
    )
    decoding = Decoding()
    for _ in range(2):
        found = decoding.decode(body, bounds=Bounds(50, 100))

        assert [ts for _, ts, _ in decoding.rows()] == [50, 100]
        assert found.refusals.samples == {Refusal.TOO_FAR_IN_FUTURE: 1, Refusal.TOO_OLD: 2}
        assert "first of a" in found.refusals.text()


def test_labels_beyond_the_limits_are_refused_before_kafka():
    limits = Limits(default=MetricLimits(labels=1))
    decoding = Decoding(limits=limits)

    found = decoding.decode(write_request([({"__name__": "a", "b": "1", "c": "2"}, [(1, 1.0)])]))

    assert found.refusals.samples == {Refusal.LABEL_LIMIT: 1}
    assert not found.definitions


def test_a_definition_is_sent_again_after_a_while_and_after_a_failure():
    body = write_request([({"__name__": "a"}, [(1, 1.0)])])
    decoding = Decoding()
    first = decoding.decode(body)
    assert not decoding.decode(body).definitions

    decoding.seconds.at += 601
    assert len(decoding.decode(body).definitions) == 1
    decoding.decoder.table.undefine(first.defined)
    assert len(decoding.decode(body).definitions) == 1


def test_definitions_that_were_overtaken_are_sent_again():
    decoding = Decoding()
    before, after = (write_request([({"__name__": n}, [(1, 1.0)])]) for n in ("a", "b"))
    decoding.decode(before)
    decoding.seconds.at = 50
    decoding.decode(after)

    decoding.decoder.table.undefine_since(40)

    assert not decoding.decode(before).definitions
    assert len(decoding.decode(after).definitions) == 1


def test_what_has_ended_makes_room_and_what_lives_stays_known():
    decoding = Decoding()
    living = write_request([({"__name__": "living"}, [(1, 1.0)])])
    for round_ in range(6):
        decoding.decode(
            write_request([({"__name__": f"m{round_}_{n}"}, [(1, 1.0)]) for n in range(5_000)])
        )
        decoding.decode(living)
        decoding.seconds.at += 700

    table = decoding.decoder.table
    assert table.count < 20_000
    assert len(table.slots) <= 1 << 16
    decoding.seconds.at -= 700
    assert not decoding.decode(living).definitions


def test_a_full_table_forgets_and_loses_nothing():
    decoding = Decoding(most=10_000)
    bodies = [
        write_request([({"__name__": f"m{k}_{n}"}, [(1, 1.0)]) for n in range(6_000)])
        for k in range(5)
    ]

    for body in bodies * 2:
        found = decoding.decode(body)
        assert found.samples == 6_000
        assert decoding.rows() == expected(body, Version.V1)
    assert len(decoding.decoder.table.slots) <= 1 << 16


def test_more_new_series_than_there_is_room_for_are_refused_and_not_tried_for_ever():
    decoding = Decoding(most=1_000)
    body = write_request([({"__name__": f"m{n}"}, [(1, 1.0)]) for n in range(60_000)])

    with contextlib.suppress(Refused):
        decoding.decode(body)
        assert decoding.rows() == expected(body, Version.V1)


def test_series_of_inputs_with_other_labels_are_others():
    body = write_request([({"__name__": "a", "x": "own"}, [(1, 1.0)])])
    decoding = Decoding()

    decoding.decode(body, source=Input("eu", (("region", "eu"), ("x", "external"))))
    assert decoding.rows()[0][0] == (("__name__", "a"), ("region", "eu"), ("x", "own"))
    decoding.decode(body, source=Input("us", (("region", "us"),)))
    assert decoding.rows()[0][0] == (("__name__", "a"), ("region", "us"), ("x", "own"))


def start_of(decoding, ts, start, value=5.0, **more):
    body = write_request_v2([({"__name__": "a_total"}, [(ts, value)])], start)
    found = decoding.decode(body, Version.V2, **more)
    c = decoding.columns
    return found, [int(c.ts[n]) for n in range(c.rows) if c.starts[n] < 0]


def test_a_start_becomes_a_zero_once_if_the_series_began_there():
    decoding = Decoding()

    found, zeros = start_of(decoding, NOW_MS, NOW_MS - 1_000)
    assert (found.samples, found.derived, zeros) == (1, 1, [NOW_MS - 1_000])
    _, zeros = start_of(decoding, NOW_MS + 5_000, NOW_MS - 1_000)
    assert zeros == []
    _, zeros = start_of(decoding, NOW_MS + 20_000, NOW_MS + 7_000)
    assert zeros == [NOW_MS + 7_000]


@pytest.mark.parametrize(
    ("ts", "start"), [(NOW_MS, NOW_MS - 400_000), (NOW_MS, NOW_MS), (NOW_MS, NOW_MS + 1), (10, -5)]
)
def test_a_start_long_ago_or_not_before_its_sample_adds_none(ts, start):
    assert start_of(Decoding(), ts, start)[1] == []


def test_of_two_replicas_one_is_taken_until_it_is_silent_for_a_while():
    def write(replica, n):
        labels = {"__name__": "up", "cluster": "c", "__replica__": replica}
        return write_request([(labels, [(n, 1.0)])])

    decoding = Decoding(failover_ms=30_000)
    replicas = decoding.decoder.replicas

    def send(replica, now_ms):
        replicas.begin(now_ms)
        found = decoding.decode(write(replica, now_ms))
        replicas.note(now_ms)
        assert found.received() == 1
        return found.samples

    assert [send("a", 0), send("b", 1), send("a", 15_000), send("b", 15_001)] == [1, 0, 1, 0]
    assert send("b", 44_000) == 0
    assert send("b", 45_000) == 1
    assert [send("a", 45_001), send("b", 46_000)] == [0, 1]
    assert decoding.rows()[0][0] == (("__name__", "up"), ("cluster", "c"))
    assert replicas.leaders() == {"c": "b"}


def test_when_bulk_is_shed_critical_samples_are_taken():
    targets = Targets(4, 2, lambda metric, _: metric == "up")
    decoding = Decoding(targets)
    body = write_request(
        [
            ({"__name__": "up"}, [(1, 1.0)]),
            ({"__name__": "known"}, [(1, 1.0)]),
        ]
    )
    found = decoding.decode(body)
    assert (found.samples, found.critical) == (2, 1)
    more = write_request([({"__name__": "new"}, [(1, 1.0)] * 3)])

    found = decoding.decode(body + more, shed=Refusal.OVERLOAD)

    assert (found.samples, found.critical) == (1, 1)
    assert found.refusals.samples == {Refusal.OVERLOAD: 4}
    assert decoding.columns.targets[0] >= 4


def test_a_request_over_a_bound_is_refused_whole():
    body = delimited_field(5, b"") * 250_000

    with pytest.raises(Refused, match="new series") as refused:
        Decoding().decode(body, Version.V2)

    assert refused.value.status == 413


def test_series_that_hold_nothing_are_bounded_too():
    body = delimited_field(1, b"") * 2_000_000

    assert Decoding().decode(body, Version.V1).samples == 0
    with pytest.raises(Refused, match="samples or series") as refused:
        Decoding().decode(body + delimited_field(1, b""), Version.V1)

    assert refused.value.status == 413


def test_columns_that_hold_rows_get_more_of_them():
    decoding = Decoding()
    body = np.frombuffer(write_request([({"__name__": "a"}, [(7, 1.0)])]), np.uint8)
    decoding.decode(bytes(body))

    decoding.decoder.decode(body, Version.V1, Input(), ANY_TIME, decoding.columns)

    assert decoding.columns.rows == 2
    assert decoding.columns.ts[:2].tolist() == [7, 7]
