"""Telegraf's JSON and prometheus-kafka-adapter's: schemas/wire says exactly what ingest takes."""

import json
import math

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from referencing import Registry, Resource

from tests.unit.ingest.messages import as_json, record
from varve.ingest.json_codec import JsonCodec
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define
from varve.model.resources import schemas_dir

WIRE = schemas_dir() / "wire"
schemas = {p.name: json.loads(p.read_text()) for p in WIRE.glob("*.schema.json")}
registry = Registry().with_resources(
    [(s["$id"], Resource.from_contents(s)) for s in schemas.values()]
)
MOMENT = "2026-11-22T09:00:00Z"
MOMENT_MS = 1_795_338_000_000


def validator(name):
    return jsonschema.Draft202012Validator(schemas[name], registry=registry)


TELEGRAF = validator("telegraf.schema.json")
ADAPTER = validator("prometheus-adapter.schema.json")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
stamps = st.integers(10**11, 10**14 - 1) | st.just(MOMENT)
tags = st.dictionaries(texts, texts, max_size=3)
scalars = st.none() | st.booleans() | numbers | texts
measurements = st.fixed_dictionaries(
    {
        "name": texts,
        "fields": st.dictionaries(texts, numbers | st.booleans() | scalars, max_size=4),
        "timestamp": stamps | scalars,
    },
    optional={"tags": tags | scalars},
)
adapted = st.fixed_dictionaries(
    {
        "name": texts,
        "labels": tags | scalars,
        "timestamp": stamps | scalars,
        "value": numbers.map(str) | st.sampled_from(["NaN", "+Inf", "-Inf", "1e+06"]) | scalars,
    }
)


def read(*objects, wrap=None):
    body = json.dumps(wrap(list(objects))) if wrap else "\n".join(map(json.dumps, objects))
    return JsonCodec().read(body.encode())


def samples(block):
    return [
        (owner.metric, dict(owner.tags), ts, value)
        for owner, ts, value in zip(
            block.owners, block.ts.tolist(), block.values.tolist(), strict=True
        )
    ]


def test_each_field_of_a_measurement_is_a_sample_of_a_series_of_its_own():
    message = {
        "name": "cpu",
        "tags": {"host": "a", "zone": ""},
        "fields": {"value": 1, "usage_idle": 99.5, "up": True, "down": False},
        "timestamp": 1_700_000_000,
    }
    TELEGRAF.validate(message)

    block = read(message)

    ms = 1_700_000_000_000
    assert not block.rejects
    assert samples(block) == [
        ("cpu", {"host": "a"}, ms, 1.0),
        ("cpu_usage_idle", {"host": "a"}, ms, 99.5),
        ("cpu_up", {"host": "a"}, ms, 1.0),
        ("cpu_down", {"host": "a"}, ms, 0.0),
    ]
    assert block.owners[0] == define("cpu", {"host": "a"})


@given(st.lists(measurements, max_size=4), st.booleans())
@example([{"name": "", "fields": {"a": 1}, "timestamp": 0}], True)
@example([{"name": "m", "fields": {}, "timestamp": 0}], True)
@example([{"name": "m", "fields": {"a": "text", "b": 1}, "timestamp": 0}], False)
def test_a_measurement_is_its_fields_and_each_that_is_no_number_is_refused_alone(found, is_batch):
    wrap = (lambda metrics: {"metrics": metrics}) if is_batch else None
    if not found and not is_batch:
        return

    block = read(*found, wrap=wrap)

    stored, refused = 0, 0
    for metric in found:
        good = {
            name: value
            for name, value in metric["fields"].items()
            if TELEGRAF.is_valid(metric | {"fields": {name: value}})
        }
        stored += len(good)
        refused += len(metric["fields"]) - len(good) if good else 1
    assert (len(block), sum(r.samples for r in block.rejects)) == (stored, refused)
    for reject in block.rejects:
        assert not len(JsonCodec().read(reject.value))


def test_a_refused_field_is_kept_as_a_message_of_its_own_and_named():
    fields = {"uptime": 5, "uptime_format": "0:05"}

    block = read({"name": "system", "fields": fields, "tags": {"host": "a"}, "timestamp": 0})

    (reject,) = block.rejects
    assert json.loads(reject.value) == {
        "name": "system",
        "fields": {"uptime_format": "0:05"},
        "tags": {"host": "a"},
        "timestamp": 0,
    }
    assert "'uptime_format'" in reject.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1e+06", 1e6), ("-1.5", -1.5), ("+Inf", math.inf), ("-Inf", -math.inf), (7, 7)],
)
def test_a_sample_of_the_adapter_has_its_value_as_text_and_its_name_among_the_labels(text, value):
    labels = {"__name__": "up", "job": "node", "zone": ""}
    message = {"labels": labels, "name": "up", "timestamp": MOMENT, "value": text}
    ADAPTER.validate(message)

    assert samples(read(message)) == [("up", {"job": "node"}, MOMENT_MS, value)]


@given(adapted)
@example({"name": "m", "labels": {"__name__": "m"}, "timestamp": 0, "value": "1e999"})
@example({"name": "m", "labels": {"__name__": "n"}, "timestamp": 0, "value": "1"})
@example({"name": "m", "labels": {}, "timestamp": 0, "value": "1_0"})
@example({"name": "m", "labels": {}, "timestamp": 0, "value": "0x1"})
@example({"name": "m", "labels": {}, "timestamp": 0, "value": None})
def test_the_schema_and_the_reader_refuse_the_same_of_the_adapter(message):
    valid = ADAPTER.is_valid(message)
    if valid:
        named = message["labels"].get("__name__", message["name"])
        valid = named == message["name"] and abs(float(message["value"])) != float("1e999")
        valid |= message["value"] in ("+Inf", "-Inf", "Inf") and named == message["name"]

    block = read(message)

    assert (len(block), len(block.rejects)) == (valid, not valid)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"metric": "m", "name": "m", "fields": {"a": 1}, "timestamp": 0}, "fields and metric"),
        ({"name": "m", "labels": {}, "fields": {"a": 1}, "timestamp": 0}, "fields and labels"),
        ({"metric": "m", "labels": {}, "value": 1, "timestamp": 0}, "labels and metric"),
        ({"metric": "m", "metrics": []}, "metric and metrics"),
        ({"name": "m", "value": 1, "timestamp": 0}, "no known format"),
        ({"name": "m", "labels": {"__name__": "n"}, "timestamp": 0, "value": "1"}, "'n'"),
        ({"name": "m", "fields": {"value": 1}, "timestamp": 1e15}, "looks like µs"),
        ({"name": "m", "fields": {"value": 1}}, "timestamp"),
        (
            {"name": "m", "fields": {"value": 1}, "timestamp": 0, "value": 1},
            "unknown field `value`",
        ),
        ({"name": "m", "fields": {"v": 1}, "timestamp": 0, "tags": {"a": 1}}, "'a' is a number"),
        (
            {"name": "m", "labels": {"a": 1}, "timestamp": 0, "value": "1"},
            "labels: 'a' is a number",
        ),
    ],
)
def test_what_is_ambiguous_or_wrong_is_refused_and_named(message, words):
    block = read(message)

    (reject,) = block.rejects
    assert len(block) == 0
    assert words in reject.detail


def test_objects_of_all_shapes_may_be_in_one_message_and_the_own_one_takes_nothing_of_the_others():
    own = record(1_000_000_000_000, host="a")
    metric = {"name": "m", "fields": {"value": 2.0}, "timestamp": MOMENT}
    sample = {"name": "requests", "labels": {"__name__": "requests"}, "timestamp": 0, "value": "3"}
    codec = JsonCodec()

    for _ in range(2):
        block = codec.read("\n".join(map(json.dumps, [own, metric, sample, own])).encode())
        assert block.values.tolist() == [1.0, 2.0, 3.0, 1.0]
        assert codec.read(json.dumps(sample).encode()).values.tolist() == [3.0]
    refused = codec.read(as_json(record(__name__="requests")))
    assert [r.reason for r in refused.rejects] == [Reason.INVALID_LABEL]


def test_every_field_says_what_it_is():
    assert TELEGRAF.schema["description"]
    assert ADAPTER.schema["description"]
    fields = TELEGRAF.schema["$defs"]["measurement"]["properties"] | ADAPTER.schema["properties"]
    assert all(field.get("description") or field.get("$ref") for field in fields.values())
