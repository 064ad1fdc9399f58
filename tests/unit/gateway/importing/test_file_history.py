"""The old samples of a file, day by day: each once, and none of the others."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.gateway.importing import file_history
from varve.gateway.importing.file_history import FileHistory
from varve.gateway.importing.sources import parts_of
from varve.maintenance.backfill import days_of
from varve.model.window import DAY_MS

UNTIL = 20_000 * DAY_MS
LABELS = st.sampled_from(
    [{"__name__": "up"}, {"__name__": "up", "a": "é"}, {"__name__": "down", "b": '"', "a": "z"}]
)
TIMES = st.integers(UNTIL - 3 * DAY_MS, UNTIL + DAY_MS) | st.sampled_from([UNTIL, UNTIL + 1])
VALUES = st.sampled_from([0.0, -1.5, math.inf, 3.25])


def old_rows(history, until_ms=UNTIL):
    """All that the days have: labels, time, value."""
    found = []
    for day in days_of(history, until_ms):
        before = None
        for stretch in history.stretches(day):
            assert before is None or before < stretch.labels
            assert (np.diff(stretch.ts) >= 0).all()
            assert ((stretch.ts > day.start_ms) & (stretch.ts <= day.end_ms)).all()
            before = stretch.labels
            pairs = zip(stretch.ts.tolist(), stretch.values.tolist(), strict=True)
            found += [(stretch.labels, ts, value) for ts, value in pairs]
    return found


@settings(max_examples=15)
@given(st.lists(st.tuples(LABELS, TIMES, VALUES), max_size=40), st.integers(1, 9))
def test_each_old_sample_is_in_its_day_and_the_others_stay_in_the_parts(
    tmp_path_factory, rows, held
):
    folder = tmp_path_factory.mktemp("history")
    file = folder / "rows.parquet"
    tags = [
        list({k: v for k, v in labels.items() if k != "__name__"}.items()) for labels, *_ in rows
    ]
    columns = {
        "metric": pa.array([labels["__name__"] for labels, *_ in rows], pa.string()),
        "tags": pa.array(tags, pa.map_(pa.string(), pa.string())),
        "ts": pa.array([ts for _, ts, _ in rows], pa.int64()),
        "value": pa.array([value for *_, value in rows], pa.float64()),
    }
    pq.write_table(pa.table(columns), file)
    aside = folder / "aside"
    aside.mkdir()

    with mock.patch.object(file_history, "_HELD", held):
        history = FileHistory(file, aside, UNTIL)
        parts = list(parts_of(file, history))
        found = old_rows(history)

    wanted = [(tuple(sorted(m.items())), ts, v) for m, ts, v in rows if ts <= UNTIL]
    assert sorted(found) == sorted(wanted)
    assert history.samples == len(wanted)
    assert sum(part.samples for part in parts) == len(rows) - len(wanted)


def test_a_file_is_known_by_its_content(tmp_path):
    texts = {"a.om": "up 1 1\n# EOF\n", "b.om": "up 1 1\n# EOF\n", "c.om": "up 2 1\n# EOF\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    a, b, c = (FileHistory(tmp_path / name, tmp_path, UNTIL).name for name in texts)

    assert a == b != c


@pytest.mark.parametrize("bits", [0x7FF0000000000002, 0x7FF8000000000001])
def test_markers_and_nan_keep_their_bits(tmp_path, bits):
    history = FileHistory(tmp_path / "none", tmp_path, UNTIL)
    history.add([("__name__", "up")], UNTIL - 5, float(np.uint64(bits).view(np.float64)))

    (stretch,) = history.stretches(days_of(history, UNTIL)[0])

    assert stretch.values.view(np.uint64).tolist() == [bits]
