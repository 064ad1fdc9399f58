import math

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from varve.model.record_rows import arranged, table_of
from varve.model.schema import table_schema

SPANS = {"offsets": [0], "lengths": [1], "counts": [1.0]}
NONE = dict.fromkeys(table_schema("histograms").names())

keys = st.tuples(st.integers(-2, 2), st.integers(0, 3))
histograms = st.lists(
    st.tuples(keys, st.sampled_from([None, 0.0, 1.0, 2.5, math.nan, math.inf]), st.integers(0, 2)),
    max_size=30,
)
exemplars = st.lists(
    st.tuples(
        keys,
        st.sampled_from([0.0, 1.5, math.nan, -math.inf]),
        st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
    ),
    max_size=30,
)


def histogram_rows(found):
    rows = []
    for (series_id, ts), count, schema in found:
        row = NONE | {"series_id": series_id, "ts": ts}
        if count is not None:
            row |= {"schema": schema, "count": count, "sum": 0.0, "zero_count": 0.0}
            row |= {"positive": SPANS, "negative": SPANS, "custom_values": []}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=table_schema("histograms").arrow)


def exemplar_rows(found):
    rows = [
        {"series_id": i, "ts": ts, "value": value, "labels": sorted(labels.items())}
        for (i, ts), value, labels in found
    ]
    return pa.Table.from_pylist(rows, schema=table_schema("exemplars").arrow)


def shown(table):
    return [repr(row) for row in table.to_pylist()]


@given(histograms, st.randoms())
def test_one_histogram_of_a_time_is_left_the_same_in_any_order_of_arrival(found, chance):
    shuffled = found.copy()
    chance.shuffle(shuffled)

    rows = arranged("histograms", histogram_rows(found))

    times = [(row["series_id"], row["ts"]) for row in rows.to_pylist()]
    assert times == sorted({key for key, _, _ in found})
    assert shown(arranged("histograms", histogram_rows(shuffled))) == shown(rows)
    assert shown(arranged("histograms", rows)) == shown(rows)


@given(histograms)
def test_of_copies_of_a_histogram_the_greatest_count_is_left_and_a_stale_marker_last(found):
    rows = arranged("histograms", histogram_rows(found)).to_pylist()

    for row in rows:
        counts = [c for key, c, _ in found if key == (row["series_id"], row["ts"])]
        numbers = [c for c in counts if c is not None and not math.isnan(c)]
        if numbers:
            assert row["count"] == max(numbers)
        elif any(c is not None for c in counts):
            assert math.isnan(row["count"])
        else:
            assert row["schema"] is None


@given(exemplars, st.randoms())
def test_exemplars_that_differ_all_stay_and_equal_ones_are_one(found, chance):
    shuffled = found.copy()
    chance.shuffle(shuffled)

    rows = arranged("exemplars", exemplar_rows(found))

    distinct = {repr((key, value, sorted(labels.items()))) for key, value, labels in found}
    assert len(rows) == len(distinct)
    assert [(r["series_id"], r["ts"]) for r in rows.to_pylist()] == sorted(
        (r["series_id"], r["ts"]) for r in rows.to_pylist()
    )
    assert shown(arranged("exemplars", exemplar_rows(shuffled))) == shown(rows)


def test_a_query_of_a_record_table_writes_it_and_any_other_samples():
    assert [table_of(q) for q in ("bulk", "histograms", "exemplars")] == [
        "samples",
        "histograms",
        "exemplars",
    ]
