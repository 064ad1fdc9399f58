"""Silences: what they cover, and how they change."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.notify.matchers import Matcher, all_match
from varve.notify.records import Silence
from varve.notify.silences import (
    BadSilence,
    Limits,
    Silences,
    State,
    UnknownSilence,
    state_of,
    stored_matchers,
)


def silences(limits: Limits | None = None) -> Silences:
    numbers = itertools.count(1)
    return Silences(lambda: f"s{next(numbers)}", limits)


def silence(*matchers: Matcher, starts_ms: int = 0, ends_ms: int = 100, silence_id: str = ""):
    return Silence(silence_id, stored_matchers(list(matchers)), starts_ms, ends_ms, 0, "me", "why")


A, B = Matcher("a", "=", "1"), Matcher("b", "=~", "x.*")
label_sets = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "xy", "z"]))
actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([(A,), (B,), (A, B)]), st.integers(1, 30)),
        st.tuples(st.just("expire"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("forget"), st.just(0), st.just(0)),
    ),
    max_size=10,
)


@given(actions, st.lists(label_sets, min_size=1, max_size=3))
def test_what_covers_an_alert_is_what_a_search_finds(actions, alerts):
    kept, ids = silences(), []
    for now_ms, (kind, value, lasts_ms) in enumerate(actions):
        if kind == "put":
            ids.append(
                kept.put(silence(*value, starts_ms=now_ms, ends_ms=now_ms + lasts_ms), now_ms)[
                    -1
                ].id
            )
        elif kind == "expire" and value < len(ids):
            if ids[value] in {s.id for s in kept}:
                kept.expire(ids[value], now_ms)
        elif kind == "forget":
            kept.forget_ended(now_ms)
        for number, labels in enumerate(alerts):
            wanted = sorted(
                s.id
                for s in kept
                if state_of(s, now_ms) is State.ACTIVE
                and all_match([Matcher(*m) for m in s.matchers], labels)
            )
            assert kept.covering(number, labels, now_ms) == wanted


def test_an_active_silence_keeps_its_id_when_it_is_lengthened_only():
    kept = silences()
    first = kept.put(silence(A, ends_ms=100), 0)[-1]

    longer = kept.put(silence(A, ends_ms=200, silence_id=first.id), 50)[-1]
    other = kept.put(silence(B, ends_ms=200, silence_id=first.id), 60)

    assert longer.id == first.id
    assert [s.id for s in other] == [first.id, "s2"]
    assert state_of(kept.get(first.id), 60) is State.EXPIRED


def test_a_silence_that_begins_in_the_past_begins_now():
    made = silences().put(silence(A, starts_ms=-500), 10)[-1]

    assert made.starts_ms == 10


def test_a_silence_that_is_made_anew_though_it_has_ended_gets_another_id():
    kept = silences()
    first = kept.put(silence(A, ends_ms=100), 0)[-1]

    again = kept.put(silence(A, ends_ms=300, silence_id=first.id), 200)

    assert [s.id for s in again] == ["s2"]


def test_everything_but_one_value_can_be_silenced():
    kept = silences()

    (made,) = kept.put(silence(Matcher("a", "!=", "x"), ends_ms=300), 0)

    assert list(kept) == [made]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (silence(A, starts_ms=5, ends_ms=5), "before end time"),
        (silence(A, starts_ms=-9, ends_ms=-1), "in the past"),
        (silence(), "at least one matcher"),
        (silence(Matcher("a", "=", "")), "empty string"),
        (silence(Matcher("a", "=~", "x?"), Matcher("b", "=~", ".*")), "empty string"),
    ],
)
def test_a_silence_without_sense_is_refused(wanted, text):
    with pytest.raises(BadSilence, match=text):
        silences().put(wanted, 0)


def test_limits_hold():
    kept = silences(Limits(silences=1, bytes_each=20))
    kept.put(silence(A), 0)

    with pytest.raises(BadSilence, match="no more"):
        kept.put(silence(A), 0)
    with pytest.raises(BadSilence, match="maximum size"):
        kept.put(silence(Matcher("a", "=", "x" * 30)), 0)


def test_an_unknown_silence_is_said():
    with pytest.raises(UnknownSilence):
        silences().expire("nope", 0)
