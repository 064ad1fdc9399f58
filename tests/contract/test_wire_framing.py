"""One set of samples, in every way a message may hold them, is the same samples."""

import gzip
import io
import json

import jsonschema
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ingest.messages import encoded
from varve.client.arrow_messages import ArrowEncoder
from varve.client.messages import JsonEncoder, Sample
from varve.ingest.decoder import Decoder
from varve.model.identity import define
from varve.model.resources import schemas_dir
from varve.model.staleness import is_stale

WIRE = schemas_dir() / "wire"
SCHEMA = json.loads((WIRE / "samples.arrow.json").read_text())
SAMPLE = jsonschema.Draft202012Validator(json.loads((WIRE / "sample.schema.json").read_text()))
# What the words of the file mean: not asked of the code under test.
TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "map<string, string>": pa.map_(pa.string(), pa.string()),
}
MAX_BYTES = 2**24

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
series = st.builds(
    lambda name, tags, kind, unit, text: define(
        name, tags, metric_type=kind, unit=unit, help_text=text
    ),
    texts,
    st.dictionaries(texts.filter(lambda t: t != "__name__"), texts, max_size=3),
    st.sampled_from(["counter", "gauge", "unknown"]),
    st.sampled_from(["", "seconds"]),
    st.just("") | texts,
)
samples = st.lists(
    st.tuples(series, st.integers(10**11, 10**14 - 1), st.none() | st.floats(allow_nan=False)),
    min_size=1,
    max_size=12,
)


def arrow_schema(part):
    fields = SCHEMA[part]
    return pa.schema([pa.field(f["name"], TYPES[f["type"]], f["nullable"]) for f in fields])


def stream(schema, batches):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch(batch, schema=schema))
    return sink.getvalue()


def sample_batch(rows):
    return [
        pa.array([s.series_id for s, _, _ in rows], pa.int64()),
        pa.array([s.check for s, _, _ in rows], pa.int32()),
        pa.array([ts for _, ts, _ in rows], pa.int64()),
        pa.array([value for _, _, value in rows], pa.float64()),
    ]


def definition_batch(defined):
    return [
        pa.array([s.metric for s in defined]),
        pa.array([list(s.tags) for s in defined], TYPES["map<string, string>"]),
        *(
            pa.array([getattr(s, n) or None for s in defined], pa.string())
            for n in ("type", "unit", "help")
        ),
    ]


def as_objects(rows):
    """JSON objects of the samples; what is "" or unknown is left out, as a producer may."""
    found = []
    for one, ts, value in rows:
        shown = value
        if value is not None and abs(value) == float("inf"):
            shown = "+Inf" if value > 0 else "-Inf"
        record = {"metric": one.metric, "value": shown, "timestamp": ts}
        if one.tags:
            record["tags"] = dict(one.tags)
        known = {"type": one.type, "unit": one.unit, "help": one.help}
        found.append(record | {k: v for k, v in known.items() if v not in ("", "unknown")})
    return found


def framings(rows, cut):
    """By name; cut: where the batches of Arrow are divided."""
    objects = as_objects(rows)
    for record in objects:
        SAMPLE.validate(record)
    lines = "\n".join(json.dumps(o, ensure_ascii=False) for o in objects)
    defined = list(dict.fromkeys(s for s, _, _ in rows))
    wire = arrow_schema("samples")
    parts = [rows[:cut], rows[cut:]]
    definitions = stream(arrow_schema("definitions"), [definition_batch(defined)])
    two = [definition_batch(defined[:1]), definition_batch(defined[1:])]
    return {
        "array": json.dumps(objects).encode(),
        "array with blanks": json.dumps(objects, indent=1).encode(),
        "NDJSON": lines.encode(),
        "NDJSON with blank lines": f"\r\n{lines}\n\n".encode(),
        "Arrow": stream(wire, [sample_batch(rows)]) + definitions,
        "Arrow of several batches": stream(wire, [*map(sample_batch, parts), sample_batch([])])
        + stream(arrow_schema("definitions"), two),
        "Arrow that says more of itself": stream(
            pa.schema([f.with_nullable(True) for f in wire], {"producer": "x"}),
            [sample_batch(rows)],
        )
        + definitions,
    }


def read(body, encoding=None):
    """(series_id, check, ts, value) of each, and the definitions."""
    block = Decoder().samples(body, MAX_BYTES, encoded(encoding))
    assert not block.rejects
    stale = is_stale(block.values)
    rows = [
        (i, c, ts, None if gone else value)
        for i, c, ts, value, gone in zip(
            block.series_ids.tolist(),
            block.checks.tolist(),
            block.ts.tolist(),
            block.values.tolist(),
            stale.tolist(),
            strict=True,
        )
    ]
    return rows, {*block.owners, *block.definitions}


@given(samples, st.integers(0, 12))
def test_every_framing_and_compression_holds_the_same_samples(rows, cut):
    expected = [(s.series_id, s.check, ts, value) for s, ts, value in rows]
    described = {(s.series_id, s.check) for s, _, _ in rows}

    for name, body in framings(rows, cut).items():
        for encoding, message in {
            None: body,
            "gzip": gzip.compress(body, 1),
            "GZIP": gzip.compress(body[:9], 1) + gzip.compress(body[9:], 1),
            "zstd": zstandard.compress(body, 1),
        }.items():
            found, definitions = read(message, encoding)
            assert found == expected, (name, encoding)
            assert {(d.series_id, d.check) for d in definitions} == described, (name, encoding)


@given(samples)
def test_one_object_alone_is_a_message(rows):
    (record,) = as_objects(rows[:1])

    found, (definition,) = read(json.dumps(record).encode())

    one, ts, value = rows[0]
    assert found == [(one.series_id, one.check, ts, value)]
    assert definition == one


@given(samples)
def test_definitions_of_a_topic_of_their_own_are_those_behind_samples(rows):
    defined = list({(s.series_id, s.check): s for s, _, _ in rows}.values())
    lines = [{"metric": d.metric, "tags": dict(d.tags), "type": d.type} for d in defined]
    for line, d in zip(lines, defined, strict=True):
        line |= {"unit": d.unit, "help": d.help}
    bodies = [
        stream(arrow_schema("definitions"), [definition_batch(defined)]),
        json.dumps(lines).encode(),
        "\n".join(map(json.dumps, lines)).encode(),
    ]

    for body in bodies:
        for encoding, message in {None: body, "zstd": zstandard.compress(body)}.items():
            block = Decoder().definitions(message, MAX_BYTES, encoded(encoding))
            assert (list(block.definitions), list(block.rejects)) == (defined, [])


@given(samples, st.booleans())
def test_what_our_client_sends_as_arrow_has_the_columns_of_the_file(rows, apart):
    for message in ArrowEncoder(2, apart=apart).messages(Sample(*row) for row in rows):
        source = pa.BufferReader(message.value)
        if message.samples:
            batches = pa.ipc.open_stream(source)
            assert batches.schema == arrow_schema("samples")
            assert sum(b.num_rows for b in batches) == message.samples
        if source.tell() < len(message.value):
            batches = pa.ipc.open_stream(source)
            assert batches.schema == arrow_schema("definitions")
            assert sum(b.num_rows for b in batches) == len(message.defines)
        assert source.tell() == len(message.value)


@given(samples)
def test_both_formats_of_our_client_hold_the_same_samples(rows):
    sent = [Sample(*row) for row in rows]

    (as_json,) = JsonEncoder(1).messages(sent)
    (as_arrow,) = ArrowEncoder(1).messages(sent)

    assert read(as_json.value)[0] == read(as_arrow.value)[0]


def _changed(part, change):
    """The schema of a part, changed, and a batch of one row of it."""
    one = define("m", {"a": "b"})
    columns = sample_batch([(one, 10**12, 1.0)]) if part == "samples" else definition_batch([one])
    fields, columns = change(list(arrow_schema(part)), columns)
    return stream(pa.schema([f.with_nullable(True) for f in fields]), [columns])


@pytest.mark.parametrize("part", ["samples", "definitions"])
@pytest.mark.parametrize(
    "change",
    [
        lambda f, c: (f[1:], c[1:]),
        lambda f, c: ([*f, pa.field("more", pa.int64())], [*c, pa.array([1])]),
        lambda f, c: ([f[1], f[0], *f[2:]], [c[1], c[0], *c[2:]]),
        lambda f, c: ([f[0].with_name("other"), *f[1:]], c),
        lambda f, c: ([f[0].with_type(pa.binary()), *f[1:]], [pa.array([b"x"]), *c[1:]]),
        lambda f, c: (f, [pa.nulls(1, f[0].type), *c[1:]]),
        lambda f, c: (f, [c[0], pa.nulls(1, f[1].type), *c[2:]]),
    ],
    ids=["fewer", "more", "other order", "other name", "other type", "null", "null in the second"],
)
def test_arrow_that_is_not_as_the_file_says_is_refused(part, change):
    samples = stream(
        arrow_schema("samples"), [sample_batch([(define("m", {"a": "b"}), 10**12, 1.0)])]
    )
    body = _changed(part, change)
    block = Decoder().samples(body if part == "samples" else samples + body, MAX_BYTES)

    assert len(block) == 0
    assert [r.reason for r in block.rejects] == ["malformed"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_compressed_body_that_is_cut_or_not_compressed_is_refused(encoding):
    body = json.dumps({"metric": "m", "value": 1, "timestamp": 10**12}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)

    for message in (packed[:-5], body, packed[:3]):
        block = Decoder().samples(message, MAX_BYTES, encoded(encoding))
        assert len(block) == 0
        assert [(r.reason, r.value) for r in block.rejects] == [("malformed", message)]
