import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.client.messages import MESSAGE_BYTES, MESSAGE_SAMPLES, JsonEncoder, Sample, partition_of
from varve.ingest.json_codec import JsonCodec
from varve.model.identity import define
from varve.model.resources import schemas_dir

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
tags = st.dictionaries(names.filter(lambda n: n != "__name__"), names, max_size=3)
series = st.builds(
    lambda name, labels, kind, text: define(
        name, labels, metric_type=kind, unit="seconds", help_text=text
    ),
    names,
    tags,
    st.sampled_from(["counter", "gauge", "unknown"]),
    names,
)
values = st.none() | st.floats(allow_nan=True, allow_infinity=True)
samples = st.builds(Sample, series, st.integers(10**12, 2 * 10**12), values)


def _same(sent: float | None, stored: float) -> bool:
    if sent is None or math.isnan(sent):
        return math.isnan(stored)
    return sent == stored


@given(st.lists(samples, max_size=30), st.integers(1, 5))
def test_what_is_sent_is_what_ingest_reads(sent, partitions):
    messages = list(JsonEncoder(partitions).messages(sent))

    read = []
    for message in messages:
        block = JsonCodec().read(message.value)
        assert not block.rejects
        read += list(zip(block.series_ids, block.checks, block.ts, block.values, strict=True))
    expected = sorted(sent, key=lambda s: partition_of(s.series.series_id, partitions))
    order = {m.partition: i for i, m in enumerate(messages)}
    expected.sort(key=lambda s: order[partition_of(s.series.series_id, partitions)])
    assert len(read) == len(expected)
    for (series_id, check, ts, value), sample in zip(read, expected, strict=True):
        assert (series_id, check, ts) == (
            sample.series.series_id,
            sample.series.check,
            sample.ts_ms,
        )
        assert _same(sample.value, value)


@given(st.lists(samples, min_size=1, max_size=30))
def test_every_sample_is_one_of_the_wire_schema(sent):
    schema = json.loads((schemas_dir() / "wire" / "sample.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)

    for message in JsonEncoder(3).messages(sent):
        for record in json.loads(message.value):
            validator.validate(record)


@given(series, series)
def test_the_definition_is_said_once_a_message(one, two):
    sent = [Sample(s, t, 1.0) for t in range(3) for s in (one, two)]

    for message in JsonEncoder(1).messages(sent):
        described = [r for r in json.loads(message.value) if "help" in r]
        assert len(described) == len({(r["metric"], str(r["tags"])) for r in described})
        assert {r["metric"] for r in described} == {one.metric, two.metric}


@given(st.lists(samples, max_size=30), st.integers(1, 5))
def test_a_series_stays_in_one_partition_and_the_key_is_its_id(sent, partitions):
    for message in JsonEncoder(partitions).messages(sent):
        first = JsonCodec().read(message.value).series_ids[0]
        assert int.from_bytes(message.key, "big", signed=True) == first
        assert message.partition == partition_of(int(first), partitions)


@pytest.mark.parametrize("tag", ["x", "x" * 2_000])
def test_a_message_ends_before_it_grows_too_long(tag):
    one = define("long", {"tag": tag})
    sent = [Sample(one, t, 1.0) for t in range(2_500)]

    messages = list(JsonEncoder(1).messages(sent))

    assert sum(m.samples for m in messages) == 2_500
    assert all(m.samples <= MESSAGE_SAMPLES for m in messages)
    assert all(len(m.value) <= MESSAGE_BYTES + 2_000 for m in messages)


def test_a_sample_longer_than_a_message_goes_alone():
    sent = [Sample(define("huge", {"tag": "x" * MESSAGE_BYTES}), t, 1.0) for t in range(2)]

    assert [m.samples for m in JsonEncoder(1).messages(sent)] == [1, 1]


def test_a_message_after_a_full_one_describes_its_series_again():
    one = define("long", {"tag": "x" * 2_000}, metric_type="gauge")

    messages = list(JsonEncoder(1).messages(Sample(one, 10**12 + t, 1.0) for t in range(1_000)))

    assert len(messages) > 2
    for message in messages:
        records = json.loads(message.value)
        assert ["type" in r for r in records] == [True] + [False] * (len(records) - 1)
