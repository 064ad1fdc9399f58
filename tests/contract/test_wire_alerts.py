from __future__ import annotations

import json

import jsonschema
import pytest

from varve.model.resources import schemas_dir
from varve.model.schema import table_schema

SCHEMA = json.loads((schemas_dir() / "wire" / "alert-event.schema.json").read_text())
FIRING = {
    "event_id": "a-1",
    "fingerprint": "00ff00ff00ff00ff",
    "rule": "HostDown",
    "state": "firing",
    "labels": {"alertname": "HostDown", "instance": "a:1"},
    "annotations": {"summary": "a:1 is down"},
    "value": 0,
    "starts_at": 1_795_338_000_000,
    "ends_at": None,
    "evaluated_at": 1_795_338_060_000,
    "snapshot": None,
}


def test_the_schema_itself_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_an_event_has_the_columns_of_the_table_and_may_lack_only_those_that_may_be_null():
    columns = table_schema("alerts").columns

    assert list(SCHEMA["properties"]) == [c.name for c in columns]
    assert set(SCHEMA["required"]) == {c.name for c in columns if not c.nullable}


def test_a_firing_alert_is_an_event():
    jsonschema.validate(FIRING, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "broken"},
        {"labels": {"instance": "a:1"}},
        {"starts_at": 1.5},
        {"value": "many"},
        {"fingerprint": "not hexadecimal!"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_anything_else_is_not(change: dict[str, object]):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(FIRING | change, SCHEMA)
