"""Rows and samples cover each moment of a query's windows once, and none reaches across an edge."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, Window
from varve.promql.errors import QueryError
from varve.promql.storage import WindowFunction
from varve.query import tier_choice
from varve.query.cover import Ranges, cover
from varve.query.file_table import FileTable
from varve.query.tier_choice import Estimate, choose, missing
from varve.query.tier_view import TierView

DAY = 20_000 * DAY_MS
FAR = DAY + 3 * DAY_MS
MANY = Estimate(10, 100_000_000, 1.0)


def view(tier, frontier_ms=FAR, first_ms=None, pending=()):
    return TierView(tier, {tier.table: 1}, FileTable(()), frontier_ms, first_ms, tuple(pending))


VIEWS = tuple(view(tier) for tier in TIERS)
edges = st.one_of(
    st.integers(0, 3 * 1440).map(lambda m: DAY + m * MINUTE_MS), st.integers(DAY, FAR)
)
pending = st.lists(
    st.tuples(st.integers(0, 70), st.integers(1, 9)).map(
        lambda t: Window(DAY + t[0] * HOUR_MS, DAY + (t[0] + t[1]) * HOUR_MS)
    ),
    max_size=3,
)


@settings(max_examples=300)
@given(
    st.lists(edges, min_size=1, max_size=20, unique=True).map(sorted),
    st.one_of(st.integers(1, 30).map(lambda h: h * HOUR_MS), st.integers(1, DAY_MS)),
    st.lists(st.integers(0, 72), min_size=4, max_size=4).map(sorted),
    pending,
    st.booleans(),
)
def test_each_moment_of_a_window_is_covered_once(ends, range_ms, frontiers, late, is_instant):
    ends = np.array(ends, np.int64)
    ranges = Ranges(ends - range_ms, ends, is_instant)
    views = [
        view(tier, (DAY + hours * HOUR_MS) // tier.width_ms * tier.width_ms, None, late)
        for tier, hours in zip(reversed(TIERS), frontiers, strict=True)
    ]

    found = cover(ranges, views)

    spans = list(zip(found.raw_starts.tolist(), found.raw_ends.tolist(), strict=True))
    for level in found.levels:
        width = level.tier.tier.width_ms
        for place in np.flatnonzero(level.used).tolist():
            start = level.origin_ms + place * width
            spans.append((start, start + width))
            assert start + width <= level.tier.frontier_ms
            assert not any(w.start_ms < start + width and w.end_ms > start for w in late)
            assert not ((ranges.edges > start) & (ranges.edges < start + width)).any()
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    for start, end in zip(ranges.starts.tolist(), ranges.ends.tolist(), strict=True):
        inside = sum(max(0, min(e, end) - max(s, start)) for s, e in spans)
        assert inside == end - start


def windows(name, range_ms, first_ms, step_ms=0, count=1):
    return WindowFunction(name, range_ms, first_ms, step_ms, count)


def test_few_samples_are_read_rather_than_rows():
    few = Estimate(10, tier_choice.CHEAP_SAMPLES, 1.0)

    assert choose(windows("rate", HOUR_MS, DAY + HOUR_MS), VIEWS, None, few) is None


def test_the_widest_rows_that_fit_are_read():
    aligned = choose(windows("rate", HOUR_MS, DAY + HOUR_MS, HOUR_MS, 24), VIEWS, None, MANY)
    by_day = choose(windows("rate", DAY_MS, DAY + DAY_MS, DAY_MS, 2), VIEWS, None, MANY)
    odd = choose(windows("rate", HOUR_MS, DAY + HOUR_MS + 300_000, HOUR_MS, 24), VIEWS, None, MANY)

    assert (aligned.tier, by_day.tier, odd.tier) == ("1h", "1d", "5m")
    assert "whole multiples of 1h" in aligned.why


@pytest.mark.parametrize("name", ["deriv", "predict_linear", "mad_over_time"])
def test_functions_of_samples_alone_are_answered_from_samples(name):
    assert choose(windows(name, HOUR_MS, DAY + HOUR_MS), VIEWS, None, MANY, "1h") is None


def test_where_samples_have_expired_ends_move_to_the_finest_rows_that_are_left():
    hours = [view(TIERS[0], first_ms=FAR - HOUR_MS), view(TIERS[1], first_ms=FAR - HOUR_MS)]
    views = (*hours, *VIEWS[2:])
    asked = windows("rate", 2 * HOUR_MS, DAY + 5 * HOUR_MS + 17 * MINUTE_MS, HOUR_MS, 9)

    found = choose(asked, views, FAR - HOUR_MS, MANY)

    assert (found.tier, found.moved_ms) == ("1h", 17 * MINUTE_MS)
    assert found.cover.ranges.ends[0] == DAY + 5 * HOUR_MS
    assert not len(found.cover.raw_ends)


def test_rows_that_reach_further_back_are_better_than_fewer_that_lack_the_rest(monkeypatch):
    """Finer rows begin late in the range: the cheapest, and most of it is not in them."""
    monkeypatch.setattr(tier_choice, "_file_rows", lambda found, _: found.windows)
    lately = DAY + 4 * HOUR_MS - 2 * MINUTE_MS
    views = (view(TIERS[0], first_ms=lately), *VIEWS[1:])
    asked = windows("rate", 4 * HOUR_MS, DAY + 4 * HOUR_MS)
    found = choose(asked, views, FAR - HOUR_MS, Estimate(1, 2, 1e-3))
    assert (found.tier, found.moved_ms) == ("1h", 0)
    assert missing(found.cover, FAR - HOUR_MS) is None


def test_a_range_shorter_than_the_rows_that_are_left_is_refused_with_what_to_ask():
    hours = [view(TIERS[0], first_ms=FAR - HOUR_MS), view(TIERS[1], first_ms=FAR - HOUR_MS)]
    views = (*hours, *VIEWS[2:])

    for forced in (None, "1h"):
        with pytest.raises(QueryError, match=r"finest tier is 1h: ask for ranges of 1h or more"):
            choose(
                windows("rate", 300_000, DAY + 5 * HOUR_MS + 60_000, HOUR_MS, 9),
                views,
                FAR - HOUR_MS,
                MANY,
                forced,
            )


def test_an_instant_selector_is_exact_from_any_rows_at_aligned_ends():
    found = choose(windows("", 300_000, DAY + HOUR_MS, HOUR_MS, 24), VIEWS, FAR, MANY)

    assert (found.tier, found.moved_ms) == ("1h", 0)


def test_a_tier_without_closed_windows_cannot_be_asked_for():
    with pytest.raises(QueryError, match="tier 1d has no closed window yet"):
        choose(windows("rate", DAY_MS, DAY + DAY_MS), VIEWS[:3], None, MANY, "1d")
