import math
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ingest.messages import NOW_MS, as_arrow
from varve.ingest import arrow_codec
from varve.ingest.decoded import concatenate
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define
from varve.model.metadata import Metadata
from varve.model.staleness import STALE_NAN, is_stale

CPU = define("cpu", {"host": "a"}, metric_type="counter", unit="seconds", help_text="Time.")
MEMORY = define("memory", {})
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
definitions = st.builds(
    lambda metric, tags, kind: define(metric, tags, metric_type=kind),
    texts,
    st.dictionaries(texts.filter(lambda t: t != "__name__"), texts, max_size=3),
    texts,
)
rows = st.lists(
    st.tuples(definitions, st.integers(-(2**63), 2**63 - 1), st.none() | st.floats()), max_size=20
)


def samples_table(count, schema=None):
    schema = schema or arrow_codec.wire_schema("samples")
    columns = [range(count), range(count), range(NOW_MS, NOW_MS + count), map(float, range(count))]
    return pa.Table.from_arrays(
        [pa.array([*c], f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def streams(*tables):
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    return sink.getvalue().to_pybytes()


@given(rows, st.booleans())
def test_what_is_written_is_read(sent, defined):
    block = arrow_codec.read(as_arrow(sent, defined=defined))

    assert not block.rejects
    assert block.series_ids.tolist() == [d.series_id for d, _, _ in sent]
    assert block.checks.tolist() == [d.check for d, _, _ in sent]
    assert block.ts.tolist() == [ts for _, ts, _ in sent]
    expected = [STALE_NAN if v is None else v for _, _, v in sent]
    assert is_stale(block.values).tolist() == [v is None for _, _, v in sent]
    assert all(
        a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(block.values.tolist(), expected, strict=True)
    )
    assert list(block.definitions) == (
        list(dict.fromkeys(d for d, _, _ in sent)) if defined else []
    )


def test_a_message_may_hold_several_batches():
    block = arrow_codec.read(streams(samples_table(10)))

    assert block.ts.tolist() == list(range(NOW_MS, NOW_MS + 10))


def test_a_slice_of_a_batch_is_read_from_where_it_begins():
    block = arrow_codec.read(streams(samples_table(10).slice(3, 5)))

    assert block.series_ids.tolist() == [3, 4, 5, 6, 7]


def test_equal_samples_have_equal_bits_once_the_blocks_are_one():
    blocks = [
        arrow_codec.read(as_arrow([(CPU, NOW_MS, v)])) for v in (-0.0, 0.0, math.nan, -math.nan)
    ]

    bits = concatenate(blocks).values.view("int64").tolist()

    assert bits[0] == bits[1] == 0
    assert bits[2] == bits[3]


def test_definitions_alone_are_a_message_for_the_topic_of_definitions():
    block = arrow_codec.read_definitions(arrow_codec.write_definitions([CPU, MEMORY]))

    assert list(block.definitions) == [CPU, MEMORY]
    assert (len(block), len(block.rejects)) == (0, 0)


def _other(name, new_type, *, nullable=False):
    schema = arrow_codec.wire_schema("samples")
    number = schema.get_field_index(name)
    return schema.set(number, pa.field(name, new_type, nullable))


@pytest.mark.parametrize(
    "message",
    [
        streams(samples_table(3).drop_columns("check")),
        streams(samples_table(3).rename_columns(["id", "check", "ts", "value"])),
        streams(samples_table(3, _other("value", pa.float32()))),
        streams(samples_table(3), samples_table(3)),
        streams(samples_table(3)) + b"\x00",
        streams(samples_table(3))[:-100],
        streams(
            pa.table(
                {"series_id": [None], "check": pa.array([1], pa.int32()), "ts": [1], "value": [1.0]}
            ).cast(pa.schema([f.with_nullable(True) for f in arrow_codec.wire_schema("samples")]))
        ),
        arrow_codec.MAGIC,
        arrow_codec.MAGIC + b"\xff\xff\xff\x7f",
        arrow_codec.MAGIC + b"\x00\x00\x00\x00",
    ],
)
def test_other_messages_are_refused_whole(message):
    block = arrow_codec.read(message)

    assert (len(block), len(block.definitions)) == (0, 0)
    assert [(r.reason, r.value, r.samples) for r in block.rejects] == [
        (Reason.MALFORMED, message, 1)
    ]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("metric", "", Reason.INVALID_LABEL),
        ("tags", [("__name__", "x")], Reason.INVALID_LABEL),
        ("tags", [("", "x")], Reason.INVALID_LABEL),
        ("tags", [("a", None)], Reason.MALFORMED),
        ("tags", [("a", "1"), ("a", "2")], Reason.MALFORMED),
    ],
)
def test_a_bad_definition_refuses_its_message(column, value, reason):
    row = {"metric": "m", "tags": [], "type": None, "unit": None, "help": None, column: value}
    schema = arrow_codec.wire_schema("definitions")
    bad = pa.Table.from_pylist([row], schema=schema)

    for block in (
        arrow_codec.read(streams(samples_table(3), bad)),
        arrow_codec.read_definitions(streams(bad)),
    ):
        assert [r.reason for r in block.rejects] == [reason]
        assert len(block) == 0


def test_text_that_is_no_utf8_refuses_its_message():
    good = arrow_codec.write_definitions([define("metric", {"host": "abcdefgh"})])
    broken = good.replace(b"abcdefgh", b"abc\xff\xffgh")

    block = arrow_codec.read_definitions(broken)

    assert [r.reason for r in block.rejects] == [Reason.MALFORMED]


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_stream_is_samples_or_a_reason(seed):
    chance = random.Random(seed)
    whole = as_arrow([(CPU, NOW_MS + n, float(n)) for n in range(50)] + [(MEMORY, NOW_MS, None)])
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        cut = bytes(
            damaged[: chance.randint(4, len(damaged))] if chance.random() < 0.3 else damaged
        )

        block = arrow_codec.read(cut)

        assert len(block.series_ids) == len(block.checks) == len(block.ts) == len(block.values)
        assert len(block.rejects) <= 1


SAID = {"cpu": Metadata("counter", "seconds", "Time."), "disk": Metadata()}


def test_what_is_said_of_metrics_comes_alone_or_behind_definitions():
    alone = arrow_codec.write_metadata(SAID)
    metadata = alone[len(arrow_codec.write(samples_table(0))) :]
    sample = as_arrow([(define("cpu", {}), NOW_MS, 1.0)])

    blocks = [arrow_codec.read(alone), arrow_codec.read(sample + metadata)]

    assert [dict(b.metadata) for b in blocks] == [SAID, SAID]
    assert [len(b) for b in blocks] == [0, 1]
    assert [len(b.definitions) for b in blocks] == [0, 1]
    assert not any(b.rejects for b in blocks)
    for wrong in (alone + metadata, sample + metadata + metadata, metadata):
        (reject,) = arrow_codec.read(wrong).rejects
        assert reject.reason == Reason.MALFORMED


def test_what_follows_the_definitions_is_not_passed_over():
    message = as_arrow([(define("cpu", {}), NOW_MS, 1.0)])

    block = arrow_codec.read(message + message)

    (reject,) = block.rejects
    assert reject.reason == Reason.MALFORMED


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_buffers_that_arrow_would_expand_without_a_bound_are_refused(codec):
    table = samples_table(100_000)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)

    block = arrow_codec.read(sink.getvalue().to_pybytes())

    assert len(block) == 0
    (reject,) = block.rejects
    assert "content-encoding" in reject.detail
