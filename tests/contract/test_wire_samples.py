"""schemas/wire says exactly what ingest takes: valid is stored, invalid is refused."""

import json

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from referencing import Registry, Resource

from varve.client.messages import JsonEncoder, Sample
from varve.ingest import arrow_codec
from varve.ingest.json_codec import JsonCodec
from varve.model.identity import define
from varve.model.resources import schemas_dir

WIRE = schemas_dir() / "wire"
schemas = [json.loads(path.read_text()) for path in sorted(WIRE.glob("*.schema.json"))]
registry = Registry().with_resources([(s["$id"], Resource.from_contents(s)) for s in schemas])
validator = jsonschema.Draft202012Validator(
    json.loads((WIRE / "sample.schema.json").read_text()),
    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
)

definition_validator = jsonschema.Draft202012Validator(
    json.loads((WIRE / "definition.schema.json").read_text()), registry=registry
)

# Lone surrogates are no UTF-8 and cannot be sent.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
moments = st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat()) | st.from_regex(
    r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-][01][0-9]:[0-5][0-9])\Z"
)
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
samples = st.fixed_dictionaries(
    {
        "metric": texts.filter(bool),
        "value": numbers | st.none() | st.sampled_from(["NaN", "+Inf", "Inf", "-Inf"]),
        "timestamp": st.floats(-1e14, 1e14, exclude_min=True, exclude_max=True)
        | st.integers(-(10**14) + 1, 10**14 - 1)
        | moments,
    },
    optional={
        "tags": st.dictionaries(texts.filter(lambda t: t not in ("", "__name__")), texts),
        "type": texts,
        "unit": texts,
        "help": texts,
    },
)


@st.composite
def spoiled(draw):
    """A sample of which one field is something else, is missing or is one too many."""
    sample = draw(samples)
    field = draw(st.sampled_from([*sample, "labels", "tags"]))
    if draw(st.booleans()) and field in sample:
        return {name: value for name, value in sample.items() if name != field}
    return sample | {field: draw(anything)}


def _is_date(sample):
    # The format says nothing of days that no month has; the reader does.
    return not isinstance(sample, dict) or not isinstance(sample.get("timestamp"), str)


def _leaves(value):
    """What is in arrays of arrays, and everything else."""
    return [leaf for v in value for leaf in _leaves(v)] if isinstance(value, list) else [value]


def _read(sample):
    return JsonCodec().read(json.dumps(sample).encode())


@given(samples)
def test_a_valid_sample_is_stored(sample):
    if _is_date(sample):
        validator.validate(sample)
    block = _read(sample)

    if validator.is_valid(sample) and not block.rejects:
        assert len(block) == 1
    else:
        assert not _is_date(sample)


@given(spoiled() | anything.filter(lambda a: a != []))
@example({"metric": "m", "value": 1, "timestamp": 1, "tags": {"__name__": "m"}})
@example({"metric": "m", "value": 1, "timestamp": True})
@example({"metric": "m", "value": 1, "timestamp": "2026-11-22T09:00:00"})
@example({"metric": "m", "value": 1, "timestamp": 1e14})
def test_the_schema_and_the_reader_refuse_the_same(sample):
    objects = _leaves(sample)
    valid = [validator.is_valid(o) for o in objects]

    block = _read(sample)

    if all(map(_is_date, objects)):
        assert len(block) == sum(valid)
        assert sum(r.samples for r in block.rejects) == len(valid) - sum(valid)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "metric": texts | scalars,
            "tags": st.dictionaries(texts, texts) | scalars,
            "type": texts | scalars,
            "value": numbers,
        },
    )
)
def test_the_schema_and_the_reader_of_definitions_refuse_the_same(definition):
    valid = definition_validator.is_valid(definition)

    block = JsonCodec().read_definitions(json.dumps(definition).encode())

    assert (len(block.definitions), len(block.rejects)) == (valid, not valid)


@pytest.mark.parametrize(
    ("moment", "is_one"),
    [
        ("2026-11-22T09:00:00Z", True),
        ("2024-02-29T23:59:59.999999+23:59", True),
        ("2026-11-22T09:00:00", False),
        ("2026-11-22 09:00:00Z", False),
        ("2026-11-22", False),
        ("20261122T090000Z", False),
        ("2026-W47-7T09:00:00Z", False),
        ("now", False),
    ],
)
def test_the_schema_and_the_reader_agree_on_moments(moment, is_one):
    sample = {"metric": "m", "value": 1, "timestamp": moment}

    assert validator.is_valid(sample) == is_one
    assert len(_read(sample)) == is_one


def test_every_field_says_what_it_is():
    schema = validator.schema

    assert schema["description"]
    assert all(field["description"] for field in schema["properties"].values())


def test_arrow_columns_are_those_of_the_file_and_each_says_what_it_is():
    schema = json.loads((WIRE / "samples.arrow.json").read_text())

    assert all(field["comment"] for part in ("samples", "definitions") for field in schema[part])
    assert arrow_codec.wire_schema("samples") == pa.schema(
        [
            pa.field("series_id", pa.int64(), nullable=False),
            pa.field("check", pa.int32(), nullable=False),
            pa.field("ts", pa.int64(), nullable=False),
            pa.field("value", pa.float64()),
        ]
    )
    assert arrow_codec.wire_schema("definitions").names == [
        "metric",
        "tags",
        "type",
        "unit",
        "help",
    ]


@given(texts.filter(bool), st.none() | st.floats())
def test_what_our_client_sends_is_valid(metric, value):
    (message,) = JsonEncoder(1).messages([Sample(define(metric, {"a": metric}), 10**12, value)])

    for sample in json.loads(message.value):
        validator.validate(sample)
