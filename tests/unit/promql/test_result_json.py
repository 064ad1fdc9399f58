import json
import math
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.promql.asking import engine_of, labels, storage_of
from varve.promql import label_json, result_json
from varve.promql.engine import Engine
from varve.promql.evaluation.workers import Workers
from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram
from varve.promql.labels.label_table import LabelTable
from varve.promql.result_json import label_sets, seconds, to_json

NATIVE = FloatHistogram(
    count=7, sum=4.5, zero_threshold=0.5, zero_count=2, positive={1: 3}, negative={1: 2}
)
CUSTOM = FloatHistogram(
    schema=CUSTOM_BUCKETS, count=3, sum=2, positive={0: 1, 2: 2}, custom_values=(1.0, 2.0)
)


def answer(result):
    return json.loads(to_json(result))


def test_an_instant_vector_has_one_value_a_series():
    engine = engine_of({labels("a", x="1"): [1.5], labels("a", x="2"): [math.inf]})

    assert answer(engine.instant("a", 1_234)) == {
        "resultType": "vector",
        "result": [
            {"metric": {"__name__": "a", "x": "1"}, "value": [1.234, "1.5"]},
            {"metric": {"__name__": "a", "x": "2"}, "value": [1.234, "+Inf"]},
        ],
    }


def test_a_range_has_the_points_that_exist_and_no_empty_series():
    engine = engine_of({labels("a"): [1.0, None, 3.0], labels("b"): [None] * 9}, every=600_000)

    assert answer(engine.range("{__name__=~'a|b'}", 0, 1_200_000, 300_000)) == {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "a"}, "values": [[0, "1"], [1200, "3"]]}],
    }


def test_a_range_selector_has_the_samples_as_they_are():
    engine = Engine(storage_of(a=[(1, 0.1), (1_500, -0.0)]))

    assert answer(engine.instant("a[1m]", 2_000)) == {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "a"}, "values": [[0.001, "0.1"], [1.5, "-0"]]}],
    }


def test_scalars_and_strings():
    engine = Engine(storage_of())

    in_full = {"resultType": "scalar", "result": [0.005, "1000000000000000000000"]}
    assert answer(engine.instant("1e21", 5)) == in_full
    assert answer(engine.instant('"a\\"b"', 0)) == {"resultType": "string", "result": [0, 'a"b']}
    assert answer(engine.range("1", 0, 1_000, 1_000))["result"] == [
        {"metric": {}, "values": [[0, "1"], [1, "1"]]}
    ]


def test_an_empty_result():
    engine = Engine(storage_of())

    assert to_json(engine.instant("a", 0)) == b'{"resultType":"vector","result":[]}'


def test_histograms_tell_count_sum_and_populated_buckets():
    engine = engine_of({labels("h"): [NATIVE], labels("c"): [CUSTOM]})

    [[_, native]] = [one["histogram"] for one in answer(engine.instant("h", 0))["result"]]
    [[_, custom]] = [one["histogram"] for one in answer(engine.instant("c", 0))["result"]]

    assert native == {
        "count": "7",
        "sum": "4.5",
        "buckets": [
            [1, "-2", "-1", "2"],
            [3, "-0.5", "0.5", "2"],
            [0, "1", "2", "3"],
        ],
    }
    assert custom == {
        "count": "3",
        "sum": "2",
        "buckets": [[3, "-Inf", "1", "1"], [0, "2", "+Inf", "2"]],
    }


def test_a_series_of_floats_and_histograms_has_both():
    engine = engine_of({labels("m"): [1.0, NATIVE, 2.0]})

    [series] = answer(engine.range("m", 0, 20_000, 10_000))["result"]
    [raw] = answer(engine.instant("m[1m]", 20_000))["result"]

    assert series["values"] == raw["values"] == [[0, "1"], [20, "2"]]
    assert [t for t, _ in series["histograms"]] == [t for t, _ in raw["histograms"]] == [10]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, b"0"), (1, b"0.001"), (1_500, b"1.500"), (-1, b"-0.001"), (-2_000, b"-2")],
)
def test_times_are_seconds_with_no_or_three_decimals(ms, text):
    assert seconds(ms) == text


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.text(min_size=1, max_size=6)))
def test_any_text_of_a_label_reads_back(row):
    table = LabelTable.of([row])

    assert json.loads(label_sets(table)) == [row]


def test_a_label_that_is_not_utf8_is_written_with_a_replacement():
    broken = b"a\xc5z".decode("utf-8", "surrogateescape")

    assert json.loads(label_sets(LabelTable.of([{"x": broken}]))) == [{"x": "a\ufffdz"}]


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(), min_size=1, max_size=20), min_size=1, max_size=5))
def test_any_values_read_back(rows):
    engine = engine_of(
        {labels("a", i=str(i)): values for i, values in enumerate(rows)}, every=400_000
    )

    result = engine.range("a", 0, 20 * 400_000, 400_000)
    found = answer(result)["result"]
    samples = engine.instant("a[1w]", 20 * 400_000)

    for whole in (result, samples):
        with mock.patch.object(result_json, "_POINTS_A_THREAD", 3):
            assert to_json(whole, Workers(4)) == to_json(whole)
    read = [[float(v) for _, v in one["values"]] for one in found]
    expected = [[v for v in values if not _is_stale(v)] for values in rows]
    assert all(map(_same_bits, read, [one for one in expected if one]))


def _is_stale(value):
    return np.float64(value).view(np.uint64) == 0x7FF0000000000002


def _same_bits(a, b):
    return np.array_equal(np.array(a), np.array(b), equal_nan=True)


texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\x00\x1f\x7f\udc80ü☃'),
    max_size=4,
)
many_labels = st.lists(
    st.dictionaries(st.sampled_from(["a", "é", 'q"']), texts), min_size=1, max_size=12
)


@given(many_labels)
def test_many_label_sets_are_written_like_few(rows):
    table = LabelTable.of(rows)
    few = label_json.label_texts(table)
    with (
        mock.patch.object(label_json, "_FEW_ROWS", 0),
        mock.patch.object(label_json, "_ROWS_A_BLOCK", 5),
        mock.patch.object(label_json, "_VALUES_A_PIECE", 2),
    ):
        buffer, offsets = label_json.label_buffer(table)
        array = label_json.label_array(table)

    assert [buffer[b:e].tobytes() for b, e in pairwise(offsets)] == few
    assert array == b"[" + b",".join(few) + b"]"


@given(st.lists(texts))
def test_texts_are_an_array_as_json_writes_it(values):
    clean = [v.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for v in values]
    with mock.patch.object(label_json, "_VALUES_A_PIECE", 2):
        written = label_json.text_array(values)

    assert written == json.dumps(clean, ensure_ascii=False, separators=(",", ":")).encode()
