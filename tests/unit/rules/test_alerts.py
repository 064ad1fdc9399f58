"""The life of an alert, against a description of it that looks at its whole history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rules.making import MINUTE, asked, evaluated, key, running, series
from varve.rules.alerts import RESOLVED_KEPT_MS, State
from varve.rules.group_run import Evaluator

HISTORY = st.lists(st.booleans(), min_size=1, max_size=40)


def described(history, hold, keep):
    """(state, active since, kept since) at the end, in minutes."""
    state, active, kept = State.INACTIVE, None, None
    for now, holds in enumerate(history):
        if holds:
            if state is State.INACTIVE:
                state, active = State.PENDING, now
            kept = None
            if now - active >= hold:
                state = State.FIRING
        elif state is State.FIRING and keep and now - (now if kept is None else kept) < keep:
            kept = now if kept is None else kept
        else:
            state, active, kept = State.INACTIVE, None, None
    return state, active, kept


@given(HISTORY, st.integers(0, 5), st.integers(0, 5))
def test_an_alert_is_in_the_state_its_history_makes(history, hold, keep):
    run = running([("A", "m > 0", f"for: {hold}m", f"keep_firing_for: {keep}m")])
    buffer = series(m=[int(holds) for holds in history])

    evaluated(run, buffer, range(len(history)))

    state, active, kept = described(history, hold, keep)
    alerts = [a for a in run.rules[0].alerts.values() if a.state is not State.INACTIVE]
    assert [a.state for a in alerts] == [state] * (state is not State.INACTIVE)
    for alert in alerts:
        assert alert.active_at_ms == active * MINUTE
        assert alert.kept_since_ms == (None if kept is None else kept * MINUTE)
    now = (len(history) - 1) * MINUTE
    shown = (
        {}
        if state is State.INACTIVE
        else {key("ALERTS", alertname="A", alertstate=state.text): 1.0}
    )
    assert asked(buffer, "ALERTS", now) == shown
    since = {} if active is None else {key("ALERTS_FOR_STATE", alertname="A"): active * 60.0}
    assert asked(buffer, "ALERTS_FOR_STATE", now) == since


@given(HISTORY)
def test_every_alert_that_fired_is_sent_with_its_end(history):
    run = running([("A", "m > 0")])
    times = range(len(history) + 2)
    buffer = series(m=[*map(int, history), 0, 0])

    sent = [one for out in evaluated(run, buffer, times) for _, one in out.sent]

    starts = [
        t * MINUTE for t, holds in enumerate(history) if holds and (t == 0 or not history[t - 1])
    ]
    ends = [
        t * MINUTE
        for t in range(1, len(history) + 1)
        if history[t - 1] and (t == len(history) or not history[t])
    ]
    assert sorted({one.starts_at_ms for one in sent}) == starts
    told = {one.starts_at_ms: one.ends_at_ms for one in sent}  # the last that was said of each
    assert [told[start] for start in starts] == ends


def test_what_has_ended_is_kept_for_a_quarter_of_an_hour_and_then_forgotten():
    run = running([("A", "m > 0")])
    buffer = series(m=[1] + [0] * 40)
    kept_minutes = RESOLVED_KEPT_MS // MINUTE

    evaluated(run, buffer, range(2 + kept_minutes))
    assert len(run.rules[0].alerts) == 1

    evaluated(run, buffer, [2 + kept_minutes])
    assert len(run.rules[0].alerts) == 0


def test_a_template_that_fails_says_so_in_its_place():
    run = running([("A", "m > 0", "annotations:", "  x: '{{ .Nothing }}'", "  y: '{{ $value }}'")])

    evaluated(run, series(m=[3]), [0])

    [alert] = run.rules[0].alerts.values()
    assert alert.annotations["y"] == "3"
    assert alert.annotations["x"].startswith("<error expanding template: __alert_A:1:4: can't")


def test_a_template_may_ask_a_query():
    text = "{{ with query `m * 2` }}{{ . | first | value }}{{ end }}"
    run = running([("A", "m > 0", "annotations:", f"  x: '{text}'")])

    evaluated(run, series(m=[3]), [0])

    [alert] = run.rules[0].alerts.values()
    assert alert.annotations["x"] == "6"


@pytest.mark.parametrize(("resend", "minutes"), [(60_000, [0, 2, 4]), (30_000, [0, 1, 2, 3, 4])])
def test_a_firing_alert_is_sent_again_once_more_than_the_delay_has_passed(resend, minutes):
    run = running([("A", "m > 0")])
    evaluator = Evaluator(resend_ms=resend)

    outs = evaluated(run, series(m=[1] * 5), range(5), evaluator)

    assert [i for i, out in enumerate(outs) if out.sent] == minutes
