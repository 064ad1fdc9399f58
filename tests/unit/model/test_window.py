from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.window import TIERS, Window, floor_to, tier_named, window_end

times = st.integers(-(2**53), 2**53)
widths = st.sampled_from([t.width_ms for t in TIERS])


@given(times, widths)
def test_a_sample_lies_in_exactly_the_left_open_window_that_ends_at_its_window_end(ts, width):
    end = window_end(ts, width)

    assert end % width == 0
    assert end - width < ts <= end


@given(times, widths)
def test_floor_is_the_last_boundary_not_after(ts, width):
    assert floor_to(ts, width) % width == 0
    assert floor_to(ts, width) <= ts < floor_to(ts, width) + width


@given(times)
def test_a_window_of_a_tier_is_whole_windows_of_the_tier_below(ts):
    for below, tier in pairwise(TIERS):
        assert tier.source == below.table
        assert tier.width_ms % below.width_ms == 0
        assert window_end(window_end(ts, below.width_ms), tier.width_ms) == window_end(
            ts, tier.width_ms
        )
    assert TIERS[0].source == "samples"


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="empty window"):
        Window(5, 5)


def test_tiers_have_names():
    assert [tier_named(t.name) for t in TIERS] == list(TIERS)
    with pytest.raises(ValueError, match="1m, 5m, 1h, 1d"):
        tier_named("2m")
