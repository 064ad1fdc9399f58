from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.rollups import window_keys

pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-5, 40)), max_size=60)


@settings(max_examples=300)
@given(pairs, pairs, st.integers(1, 7))
def test_rows_of_windows_are_found_in_any_order(rows, keys, width):
    wanted = sorted({(s, -(-ts // width) * width) for s, ts in keys})
    ids, times = np.array(rows, np.int64).reshape(-1, 2).T.copy()

    found = window_keys.in_windows(ids, times, width, np.array(wanted, np.int64).reshape(-1, 2))

    assert found.tolist() == [(s, -(-ts // width) * width) in wanted for s, ts in rows]
