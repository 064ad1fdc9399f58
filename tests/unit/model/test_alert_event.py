import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.alert_event import AlertEvent
from varve.model.errors import BadRequest
from varve.model.resources import schemas_dir

SCHEMA = json.loads((schemas_dir() / "wire" / "alert-event.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)
texts = st.text(st.characters(codec="utf-8"))
times = st.integers(0, 2**53)


@given(
    st.dictionaries(texts.filter(bool), texts),
    st.sampled_from(["pending", "firing", "resolved"]),
    times,
    times,
    st.dictionaries(texts, texts),
    st.none() | st.floats(),
)
def test_every_event_is_one_of_the_wire_schema(labels, state, one, other, annotations, value):
    labels["alertname"] = "A"
    event = AlertEvent(labels, state, min(one, other), max(one, other), annotations, value)

    message = json.loads(event.message(), parse_constant=pytest.fail)

    CHECK.validate(message)
    assert message["labels"] == labels
    assert (message["ends_at"] is not None) == (state == "resolved")


def test_an_event_is_known_by_its_alert_state_and_times():
    event = AlertEvent({"alertname": "A", "x": "1"}, "firing", 1, 2)

    assert event.event_id == AlertEvent({"x": "1", "alertname": "A"}, "firing", 1, 2).event_id
    assert event.event_id != AlertEvent({"x": "1", "alertname": "A"}, "resolved", 1, 2).event_id
    assert event.event_id != AlertEvent({"x": "1", "alertname": "A"}, "firing", 1, 3).event_id
    assert event.key == AlertEvent({"x": "1", "alertname": "A"}, "resolved", 1, 3).key


@pytest.mark.parametrize(
    ("labels", "starts", "found"),
    [({}, 0, 1), ({"alertname": ""}, 0, 1), ({"alertname": "A"}, 2, 1)],
)
def test_an_alert_without_a_name_or_that_begins_after_it_is_found_is_refused(labels, starts, found):
    with pytest.raises(BadRequest):
        AlertEvent(labels, "firing", starts, found)
