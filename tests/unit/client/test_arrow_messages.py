import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.test_messages import samples
from varve.client.arrow_messages import REDEFINE_S, ArrowEncoder
from varve.client.messages import MESSAGE_BYTES, MESSAGE_SAMPLES, Sample, partition_of
from varve.ingest import arrow_codec
from varve.model.identity import define
from varve.model.staleness import STALE_NAN


def _same(sent, stored):
    if sent is None:
        return math.isnan(stored) and math.copysign(1, stored) == math.copysign(1, STALE_NAN)
    return sent == stored or (math.isnan(sent) and math.isnan(stored))


@given(st.lists(samples, max_size=30), st.integers(1, 5), st.booleans())
def test_what_is_sent_is_what_ingest_reads(sent, partitions, apart):
    encoder = ArrowEncoder(partitions, apart=apart)
    messages = list(encoder.messages(sent))

    read, defined = [], set()
    for message in messages:
        if message.samples:
            block = arrow_codec.read(message.value)
            assert {partition_of(int(i), partitions) for i in block.series_ids} == {
                message.partition
            }
            assert not (apart and block.definitions)
        else:
            block = arrow_codec.read_definitions(message.value)
            assert apart
        assert not block.rejects
        assert len(block) == message.samples
        assert list(block.definitions) == list(message.defines)
        defined |= set(block.definitions)
        read += list(zip(block.series_ids, block.checks, block.ts, block.values, strict=True))
    order = list(dict.fromkeys(m.partition for m in messages if m.samples))
    expected = sorted(sent, key=lambda s: order.index(partition_of(s.series.series_id, partitions)))
    assert len(read) == len(sent)
    for (series_id, check, ts, value), sample in zip(read, expected, strict=True):
        series = sample.series
        assert (series_id, check, ts) == (series.series_id, series.check, sample.ts_ms)
        assert _same(sample.value, value)
    assert {(d.series_id, d.check) for d in defined} == {
        (s.series.series_id, s.series.check) for s in sent
    }


def test_a_definition_is_sent_until_the_broker_has_it():
    now_s = [0.0]
    encoder = ArrowEncoder(1, now_s=lambda: now_s[0])
    one = [Sample(define("m", {"a": "b"}), 10**12, 1.0)]

    (first,) = encoder.messages(one)
    (second,) = encoder.messages(one)
    encoder.delivered(second)
    (third,) = encoder.messages(one)
    now_s[0] = REDEFINE_S
    (fourth,) = encoder.messages(one)

    assert [len(m.defines) for m in (first, second, third, fourth)] == [1, 1, 0, 1]
    assert [len(arrow_codec.read(m.value).definitions) for m in (first, third)] == [1, 0]


@pytest.mark.parametrize("tag", ["x", "ä" * 2_000])
def test_a_message_ends_before_it_grows_too_long(tag):
    sent = [Sample(define("long", {"tag": f"{tag}{n}"}), 10**12, 1.0) for n in range(2_500)]

    messages = list(ArrowEncoder(1).messages(sent))

    assert sum(m.samples for m in messages) == 2_500
    assert all(m.samples <= MESSAGE_SAMPLES for m in messages)
    assert all(len(m.value) <= MESSAGE_BYTES + 2_000 for m in messages)
