import pytest

from varve.local.condition import Condition
from varve.local.disk import Shortage
from varve.local.supervisor import Health

READY = Health("ready", 1, 0, 0, "")
STARTING = Health("starting", 1, 0, 0, "")
WAITING = Health("waiting", 0, 3, 3, "ended with exit status 1 (no Kafka)")
HELD = Health("held", 0, 0, 0, "the disk is full")


@pytest.fixture
def condition(tmp_path):
    said = []
    condition = Condition(tmp_path, "http://here/", said.append)
    condition.said = said
    return condition


def test_it_starts_until_all_components_are_up_and_is_degraded_whenever_one_is_not(condition):
    condition.update({}, None)
    assert condition.state == "starting"
    condition.update({"a": READY, "b": STARTING}, None)
    assert condition.state == "starting"

    condition.update({"a": READY, "b": READY}, None)
    assert (condition.state, condition.wrong) == ("ready", "")
    assert condition.said[-1].endswith(" s: open http://here/")

    condition.update({"a": READY, "b": WAITING}, None)
    assert condition.state == "degraded"
    assert condition.wrong == "b: ended with exit status 1 (no Kafka)"
    condition.update({"a": READY, "b": STARTING}, None)
    assert condition.state == "degraded"

    condition.update({"a": READY, "b": READY}, None)
    assert condition.state == "ready"
    assert condition.said[-1] == "all components run again"
    assert len(condition.said) == 2


def test_a_start_that_fails_is_degraded_too(condition):
    condition.update({"a": READY, "b": WAITING}, None)

    assert condition.state == "degraded"
    assert not condition.was_ready


def test_a_full_disk_is_what_is_wrong(condition):
    condition.update({"a": READY, "b": HELD}, Shortage("the disk is full", severe=False))

    assert (condition.state, condition.wrong) == ("degraded", "the disk is full")
