import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.labels.combine import concatenate, match_group_ids
from varve.promql.labels.label_hash import encoded, xxh64
from varve.promql.labels.label_table import LabelTable, format_labels

names = st.sampled_from(["__name__", "job", "instance", "le", "zone"])
label_sets = st.lists(st.dictionaries(names, st.sampled_from(["", "a", "b", "c"])), max_size=12)


def plain(labels):
    return tuple(sorted((n, v) for n, v in labels.items() if v))


@given(label_sets)
def test_a_table_gives_back_the_label_sets_it_was_made_of(rows):
    assert LabelTable.of(rows).labels() == [plain(row) for row in rows]


@given(label_sets, st.sets(names), st.booleans())
def test_rows_are_in_one_group_if_and_only_if_their_grouping_labels_are_equal(rows, by, without):
    grouping = LabelTable.of(rows).group(tuple(sorted(by)), without=without)

    def key(row):
        if without:
            return tuple(p for p in plain(row) if p[0] not in by and p[0] != "__name__")
        return tuple(p for p in plain(row) if p[0] in by)

    keys = [key(row) for row in rows]
    assert [grouping.table.labels()[i] for i in grouping.ids] == keys
    assert grouping.table.labels() == list(dict.fromkeys(keys))


@given(label_sets, st.sampled_from([1, 300]))
def test_order_sorts_by_labels(rows, times):
    rows = rows * times
    table = LabelTable.of(rows)

    order = table.sort_order().tolist()

    assert order == sorted(range(len(rows)), key=lambda i: plain(rows[i]))


@given(label_sets, label_sets, st.sets(names), st.booleans())
def test_joint_numbers_are_equal_where_the_matched_labels_are(left, right, matched, on):
    tables = LabelTable.of(left), LabelTable.of(right)

    (first, second), count = match_group_ids(tables, tuple(sorted(matched)), on=on)

    def key(row):
        if on:
            return tuple(p for p in plain(row) if p[0] in matched)
        return tuple(p for p in plain(row) if p[0] not in matched and p[0] != "__name__")

    numbers = [*first.tolist(), *second.tolist()]
    keys = [key(row) for row in [*left, *right]]
    assert len(set(zip(numbers, keys, strict=True))) == len(set(keys)) == count


@given(label_sets, label_sets)
def test_concatenated_tables_have_the_rows_of_both(left, right):
    both = concatenate((LabelTable.of(left), LabelTable.of(right)))

    assert both.labels() == [plain(row) for row in [*left, *right]]


def test_metadata_labels_are_dropped_only_where_asked():
    rows = [{"__name__": "up", "__type__": "gauge", "job": "x"}, {"__name__": "up", "job": "y"}]

    dropped = LabelTable.of(rows).without_metadata(np.array([True, False]))

    assert dropped.labels() == [(("job", "x"),), (("__name__", "up"), ("job", "y"))]


def test_label_sets_are_shown_as_in_prometheus_errors():
    labels = (("__name__", "up"), ("a.b", 'x"y'))

    assert format_labels(labels) == '{__name__="up", "a.b"="x\\"y"}'


def test_xxh64_gives_the_published_values():
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(bytes(range(101))) == xxh64(bytes(range(101)))


def test_label_sets_are_hashed_with_the_length_of_every_part():
    assert encoded((("job", "x"),)) == b"\x03job\x01x"
    assert encoded((("job", "y" * 300),)) == b"\x03job\xff\x2c\x01\x00" + b"y" * 300
