"""When slots are due: properties over random arrivals of data."""

from hypothesis import given
from hypothesis import strategies as st

from varve.rules.group_run import Part
from varve.rules.running.slots import Cursor, GroupTiming, Timing, due, first_cursor, skip_old

STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=60)
TIMING = Timing(wait_ms=30, catch_up_ms=1_000_000)


@given(STEPS, st.integers(1, 25), st.integers(0, 20), st.booleans())
def test_every_slot_is_evaluated_once_in_order_and_never_recorded_without_its_data(
    steps, interval_ms, offset_ms, alerts
):
    group = GroupTiming("g", interval_ms, offset_ms, alerts)
    now_ms, complete_ms, cursor = 1_000, 900, first_cursor(group, 1_000)
    start_ms = cursor.evaluated_ms
    alerted, recorded = [], []
    for passed_ms, arrived_ms in steps:
        now_ms += passed_ms
        complete_ms = min(now_ms, complete_ms + arrived_ms)
        while slot := due(cursor, group, TIMING, complete_ms=complete_ms, now_ms=now_ms):
            assert slot.at_ms <= now_ms
            if slot.part is not Part.ALERTING:
                assert complete_ms >= slot.at_ms - offset_ms
                recorded.append(slot.at_ms)
            else:
                assert now_ms >= slot.at_ms + TIMING.wait_ms
            if slot.part is not Part.RECORDING:
                alerted.append(slot.at_ms)
            cursor = slot.after
            assert cursor.recorded_ms <= cursor.evaluated_ms
        if alerts:  # none is overdue
            assert group.next(cursor.evaluated_ms) > now_ms - TIMING.wait_ms

    assert alerted == [start_ms + interval_ms * n for n in range(1, len(alerted) + 1)]
    assert recorded == [start_ms + interval_ms * n for n in range(1, len(recorded) + 1)]


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(1, 100), st.integers(0, 2_000))
def test_skipping_counts_what_it_leaves_out(behind_ms, lag_ms, interval_ms, catch_up_ms):
    group, now_ms = GroupTiming("g", interval_ms, 0, True), 100_000
    timing = Timing(30, catch_up_ms)
    evaluated_ms = (now_ms - behind_ms) // interval_ms * interval_ms
    recorded_ms = (evaluated_ms - lag_ms) // interval_ms * interval_ms
    before = Cursor(evaluated_ms, recorded_ms)

    after, whole, partly = skip_old(before, group, timing, now_ms)

    assert after.evaluated_ms - before.evaluated_ms == whole * interval_ms
    assert after.recorded_ms - before.recorded_ms == (whole + partly) * interval_ms
    assert whole == 0 or after == first_cursor(group, now_ms)
    assert group.next(after.recorded_ms) > timing.oldest_ms(now_ms, interval_ms)
