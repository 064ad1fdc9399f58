"""Links in messages that acknowledge: made by a key, good for a while, for one thing."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.notify.oncall.test_on_call import CONFIG, MINUTE, ON_CALL, START_MS, Run
from varve.notify.config.document import ConfigError
from varve.notify.http import on_call_api
from varve.notify.http.bodies import Refused
from varve.notify.message import group_hash
from varve.notify.oncall.load import read_on_call
from varve.notify.oncall.signed_links import BadLinkError, SignedLinks

HOUR = 60 * MINUTE
LINKS = SignedLinks(b"a key of sixteen bytes or more", HOUR)
names = st.text(max_size=20)


def query_of(link: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))


@given(kind=st.sampled_from(["alert", "group"]), name=names, by=names, at_ms=st.integers(0, 2**50))
def test_a_link_is_read_as_it_was_made_until_it_is_too_old(kind, name, by, at_ms):
    query = query_of(LINKS.link("http://x", kind, name, by, at_ms))

    said = LINKS.read(query, at_ms + HOUR)

    assert (said.kind, said.id, said.by, said.as_of_ms) == (kind, name, by, at_ms)
    with pytest.raises(BadLinkError, match="too old"):
        LINKS.read(query, at_ms + HOUR + 1)


@given(part=st.sampled_from(["alert", "by", "as_of", "until", "signature"]), data=st.data())
def test_a_link_with_anything_changed_or_left_out_is_refused(part, data):
    query = query_of(LINKS.link("http://x", "alert", "0123456789abcdef", "anna", START_MS))
    if data.draw(st.booleans()):
        number = part in {"as_of", "until"}
        other = data.draw(st.integers().map(str) if number else names)
        query = {**query, part: other} if other != query[part] else {}
    else:
        del query[part]

    with pytest.raises(BadLinkError):
        LINKS.read(query, START_MS)


def test_a_link_of_another_key_is_refused():
    other = SignedLinks(b"another key of enough bytes", HOUR)

    with pytest.raises(BadLinkError, match="not made here"):
        LINKS.read(query_of(other.link("http://x", "alert", "ab", "anna", START_MS)), START_MS)


@pytest.fixture
def run(tmp_path):
    key = tmp_path / "ack.key"
    key.write_bytes(LINKS.key + b"\n")
    return Run(f"acknowledge_links: {{key_file: {key}, valid_for: 1h}}\n{ON_CALL}")


def follow(run, kind, name, at_ms=START_MS):
    query = query_of(LINKS.link("", kind, name, "ben", at_ms))
    return on_call_api.acknowledge_linked(run.notifier, query, run.now_ms)[1]


def told_after(run, minutes):
    run.told = []
    run.minutes(minutes, "A", "B")
    return {to for _, to, _ in run.told}


def test_a_link_of_an_alert_ends_its_escalation_and_no_other(run):
    run.minutes(1, "A", "B")
    (entry,) = [e for e in run.notifier.entries.values() if e.labels["alertname"] == "A"]

    found = follow(run, "alert", f"{entry.alert.fingerprint:016x}")

    assert found == [entry]
    assert run.notifier.acknowledged_by(entry.alert) == "ben"
    assert told_after(run, 15) == {"boss"}  # of B


def test_a_link_of_a_group_is_about_all_that_fires_in_it(run):
    run.minutes(1, "A", "B")
    for key in run.notifier.groups:
        assert len(follow(run, "group", group_hash(key))) == 1

    assert told_after(run, 15) == set()


def test_a_link_does_not_acknowledge_what_fires_anew(run):
    run.minutes(1, "A")
    (entry,) = run.notifier.entries.values()
    name = f"{entry.alert.fingerprint:016x}"
    run.fires("A", ends=True)
    run.minutes(2)
    assert follow(run, "alert", name) == []

    run.minutes(1, "A")

    assert follow(run, "alert", name) == []
    assert run.notifier.acknowledged_by(entry.alert) == ""


def test_looking_at_a_link_changes_nothing(run):
    run.minutes(1, "A")
    (entry,) = run.notifier.entries.values()
    query = query_of(LINKS.link("", "alert", f"{entry.alert.fingerprint:016x}", "ben", START_MS))

    said, found = on_call_api.linked(run.notifier, query, run.now_ms)

    assert (said.by, found) == ("ben", [entry])
    assert run.notifier.acknowledged_by(entry.alert) == ""


def test_without_a_key_there_are_no_links():
    run = Run()

    with pytest.raises(Refused, match="acknowledge_links") as refused:
        follow(run, "alert", "00")

    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(None, "No such file"), (b"short", "fewer than 16 bytes"), (b"   \n", "fewer than 16 bytes")],
)
def test_a_key_that_cannot_be_used_is_said(tmp_path, content, wrong):
    key = tmp_path / "ack.key"
    if content is not None:
        key.write_bytes(content)

    with pytest.raises(ConfigError, match=wrong):
        read_on_call(f"acknowledge_links: {{key_file: {key}}}", CONFIG.receivers)


def test_a_key_is_shown_nowhere():
    assert "sixteen" not in repr(LINKS)
