"""Vector matching against its specification, pair by pair."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.promql.asking import engine_of, vector
from varve.promql.errors import QueryError

values = st.sampled_from(["", "1", "2"])
label_sets = st.fixed_dictionaries({"x": values, "y": values, "z": values})
sides = st.lists(label_sets, max_size=4, unique_by=lambda found: tuple(sorted(found.items())))
names = st.lists(st.sampled_from("xyz"), max_size=2, unique=True)
groups = st.sampled_from(["", "group_left", "group_right"])
fills = st.sampled_from(["", "fill", "fill_left", "fill_right"])

DUPLICATE = "found duplicate series for the match group {} on the {} hand-side of the operation: "
ONE_TO_ONE = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)
GROUPED = "multiple matches for labels: grouping labels must ensure unique matches"


class Refused(Exception):
    """What the specification calls an error, by its text."""


def engine_with(left, right):
    series = {}
    for name, side, base in (("a", left, 10.0), ("b", right, 1.0)):
        for i, found in enumerate(side):
            key = {"__name__": name} | {k: v for k, v in found.items() if v}
            series[tuple(sorted(key.items()))] = [base * (i + 1)]
    return engine_of(series)


def matched(found, labels, *, on):
    """The labels that are matched on."""
    return tuple(sorted((k, v) for k, v in found.items() if v and (k in labels) == on))


def specified(left, right, labels, *, on, group="", include=(), fill_left=None, fill_right=None):
    """The sums of the pairs: {labels: value}. Raises Refused."""
    many = [(found, 10.0 * (i + 1)) for i, found in enumerate(left)]
    one = [(found, 1.0 * (i + 1)) for i, found in enumerate(right)]
    fill_one, fill_many = fill_right, fill_left
    if group == "group_right":
        many, one = one, many
    if not (many and one) and (not (many or one) or fill_left is fill_right is None):
        return {}
    partners = {}
    for found, value in one:
        key = matched(found, labels, on=on)
        if key in partners:
            raise Refused("found duplicate series")
        partners[key] = found, value
    keyed = [(matched(found, labels, on=on), found, value) for found, value in many]
    if fill_one is not None:
        filled = {key: (dict(key), fill_one) for key, _, _ in keyed if key not in partners}
    else:
        filled = {}
    pairs, seen = {}, set()
    for key, found, value in keyed:
        if key not in partners and key not in filled:
            continue
        other, addend = partners.get(key) or filled[key]
        result = shown(found if group else dict(key), other, include)
        if not group and key in seen:
            raise Refused(ONE_TO_ONE)
        if group and result in pairs:
            raise Refused(GROUPED)
        seen.add(key)
        pairs[result] = value + addend
    for key, (other, addend) in partners.items():
        if fill_many is not None and key not in seen:
            pairs[shown(dict(key), other, include)] = fill_many + addend
    return pairs


def shown(found, other, include):
    """The labels of a result: those included come from the other side, or go."""
    result = found | {name: other.get(name, "") for name in include}
    return tuple(sorted((k, v) for k, v in result.items() if v))


@settings(max_examples=400)
@given(sides, sides, names, st.booleans(), groups, st.sampled_from(["", "x", "z"]), fills)
def test_pairs_are_those_of_the_specification(left, right, labels, on, group, include, fill):
    if include in labels and on:
        include = ""
    query = f"a + {'on' if on else 'ignoring'}({','.join(labels)})"
    query += f" {group}({include})" if group else ""
    query += f" {fill}(100)" if fill else ""
    query += " b"
    given_fills = {
        "fill_left": 100.0 if fill in ("fill", "fill_left") else None,
        "fill_right": 100.0 if fill in ("fill", "fill_right") else None,
    }
    included = (include,) if group and include else ()
    try:
        expected = specified(
            left, right, labels, on=on, group=group, include=included, **given_fills
        )
    except Refused as refused:
        expected = str(refused)

    try:
        found = vector(engine_with(left, right).instant(query, 0))
    except QueryError as error:
        found = str(error)

    if isinstance(expected, str):
        assert isinstance(found, str), (query, expected, found)
        assert found.startswith(expected), query
    else:
        assert found == expected, query


@settings(max_examples=200)
@given(sides, sides, names, st.booleans())
def test_set_operators_keep_series_by_their_match(left, right, labels, on):
    engine = engine_with(left, right)
    modifier = f"{'on' if on else 'ignoring'}({','.join(labels)})"

    def series(name, found):
        return tuple(sorted({"__name__": name, **{k: v for k, v in found.items() if v}}.items()))

    def keys(side):
        return {matched(found, labels, on=on) for found in side}

    both = {series("a", f) for f in left if matched(f, labels, on=on) in keys(right)}
    added = {series("b", f) for f in right if matched(f, labels, on=on) not in keys(left)}
    mine = {series("a", f) for f in left}

    assert vector(engine.instant(f"a and {modifier} b", 0)).keys() == both
    assert vector(engine.instant(f"a unless {modifier} b", 0)).keys() == mine - both
    assert vector(engine.instant(f"a or {modifier} b", 0)).keys() == mine | added


def test_duplicates_are_shown_with_their_group_and_side():
    engine = engine_with([{"x": "1"}], [{"x": "1", "y": "1"}, {"x": "1", "y": "2"}])
    listed = '[{__name__="b", x="1", y="1"}, {__name__="b", x="1", y="2"}]'

    for query, side in (("a + on(x) b", "right"), ("b + on(x) group_right a", "left")):
        try:
            engine.instant(query, 0)
        except QueryError as error:
            text = str(error)
        assert text == (
            DUPLICATE.format('{x="1"}', side)
            + listed
            + ";many-to-many matching not allowed: matching labels must be unique on one side"
        )


def test_equal_results_of_one_step_may_still_be_aggregated():
    engine = engine_of({(("__name__", name),): [1.0] for name in ("a", "b")})
    query = '{__name__=~"a|b"} + on(__name__) {__name__=~"a|b"}'

    assert vector(engine.instant(f"sum({query})", 0)) == {(): 4.0}
    try:
        found = vector(engine.instant(query, 0))
    except QueryError as error:
        found = str(error)
    assert found == "vector cannot contain metrics with the same labelset"


def test_comparisons_keep_the_left_value_whichever_side_is_many():
    engine = engine_with([{"x": "1"}], [{"x": "1", "y": "1"}, {"x": "1", "y": "2"}])

    kept = vector(engine.instant("a > on(x) group_right b", 0))
    judged = vector(engine.instant("a < bool on(x) group_right b", 0))

    assert set(kept.values()) == {10.0}
    assert set(judged.values()) == {0.0}
    assert all(re.match("[xy]", name) for key in judged for name, _ in key), "names go with bool"
    assert len(kept) == len(judged) == 2


@pytest.mark.parametrize(
    ("fill", "filled"),
    [
        ("fill_left(100)", {(("x", "2"),): 102.0}),
        ("fill_right(100)", {(("x", "3"), ("y", "1")): 120.0}),
        ("fill_right(100) fill_left(7)", {(("x", "2"),): 9.0, (("x", "3"), ("y", "1")): 120.0}),
        ("fill(0)", {(("x", "2"),): 2.0, (("x", "3"), ("y", "1")): 20.0}),
    ],
)
@pytest.mark.parametrize("group", ["group_left", "group_right"])
def test_fill_left_fills_the_many_side_and_fill_right_the_one_side_with_either_group(
    group, fill, filled
):
    one = {(("__name__", "one"), ("x", x)): [float(x)] for x in "12"}
    many = {
        (("__name__", "many"), ("x", x), ("y", "1")): [v] for x, v in (("1", 10.0), ("3", 20.0))
    }
    operands = ("many", "one") if group == "group_left" else ("one", "many")

    found = vector(
        engine_of(one | many).instant(f"{operands[0]} + on(x) {group} {fill} {operands[1]}", 0)
    )

    assert found == filled | {(("x", "1"), ("y", "1")): 11.0}


@pytest.mark.parametrize("order", [("b", "a"), ("a", "b"), ("10", "9")])
def test_duplicates_are_shown_in_the_order_of_their_labels(order):
    series = {(("__name__", "d"), ("x", "1"), ("z", z)): [1.0] for z in order}
    engine = engine_of({**series, (("__name__", "m"), ("x", "1")): [1.0]})
    first, second = sorted(order)
    listed = (
        rf'\[{{__name__="d", x="1", z="{first}"}}, {{__name__="d", x="1", z="{second}"}}\];many'
    )

    for query in ("m * on(x) d", "d - ignoring(z, y) group_right m", "m > on(x) fill(1) d"):
        with pytest.raises(QueryError, match=listed):
            engine.range(query, 0, 10_000, 10_000)


def test_a_comparison_brings_no_dropped_name_back():
    series = {(("__name__", name), ("x", "1")): [1.0, 2.0, 3.0] for name in ("a", "b")}
    engine = engine_of(series)

    for query in ("abs(a) >= on(x) group_left b", "abs(a) >= ignoring() fill(9) b", "-a < b"):
        assert set(vector(engine.instant(query, 10_000))) == {(("x", "1"),)}, query
    kept = vector(engine.instant("a == on(x) group_left abs(b)", 10_000))
    assert set(kept) == {(("__name__", "a"), ("x", "1"))}


def test_a_series_that_lost_its_name_is_another_one():
    engine = engine_of({(("__name__", "a"), ("x", "1")): [1.0, 2.0, None, 5.0]})

    result = engine.range("abs(a) > 1 and a < 5 or on(x) a", 0, 30_000, 10_000)

    found = {
        labels: result.value.values[row, result.value.present[row]].tolist()
        for row, labels in enumerate(result.value.labels.labels())
    }
    assert found == {(("x", "1"),): [2.0, 2.0], (("__name__", "a"), ("x", "1")): [1.0, 5.0]}
