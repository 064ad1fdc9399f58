from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from varve.model.identity import canonical, define, id_range, identify, metric_prefix

DATASET = Path(__file__).resolve().parents[4] / "shared" / "bench" / "dataset.py"
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
labels = st.dictionaries(names, names, max_size=4)


@pytest.fixture(scope="module")
def reference():
    """The benchmark's dataset generator, which computes identities on its own."""
    if not DATASET.is_file():
        pytest.skip(f"no reference: {DATASET} is not there")
    spec = importlib.util.spec_from_file_location("reference_dataset", DATASET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_identities_are_those_of_the_reference_on_its_ten_thousand_series(reference):
    import numpy as np

    shapes = reference.Shapes(1, 2, 15.0, np.random.default_rng(1))
    ports = {"node": "9100", "web": "8080"}
    compared = 0
    for family in reference.families(shapes):
        for host in range(100):
            tags = {
                "cluster": f"c{host % 4}",
                "instance": f"host-{host:04d}:{ports[family.job]}",
                "job": family.job,
                **family.labels,
            }
            expected = (
                reference.series_id(family.metric, tags),
                reference.check(family.metric, tags),
            )
            assert identify(family.metric, tags) == expected
            compared += 1
    assert compared == 10_000


plain_names = names.filter(lambda name: not set(name) & set('"\\\n,={}'))


@given(plain_names, st.dictionaries(plain_names, names, max_size=4))
def test_texts_and_identities_are_those_of_the_reference_for_plain_names(reference, metric, tags):
    assert canonical(metric, tags) == reference.canonical(metric, tags)
    assert identify(metric, tags) == (
        reference.series_id(metric, tags),
        reference.check(metric, tags),
    )


def test_an_identity_never_changes():
    assert identify("up", {"job": "node", "instance": "a:1"}) == (-8056169334645517825, 982942194)


@given(names, labels)
def test_the_order_of_labels_and_empty_values_do_not_matter(metric, tags):
    shuffled = dict(reversed(tags.items())) | {"empty\0": ""}

    assert identify(metric, shuffled) == identify(metric, tags)
    assert define(metric, shuffled).tags == tuple(sorted(tags.items()))


@given(names, labels)
def test_the_series_of_a_metric_lie_in_its_range(metric, tags):
    series_id, check = identify(metric, tags)
    first, last = id_range(metric)

    assert first <= series_id <= last
    assert -(2**63) <= first < last < 2**63
    assert last - first == 2**52 - 1
    assert -(2**31) <= check < 2**31
    assert 0 <= metric_prefix(metric) < 4096


odd_names = st.text('ab"\\\n,={}', min_size=1, max_size=6)
odd_labels = st.dictionaries(odd_names, odd_names, max_size=3)


@given(odd_names, odd_labels, odd_names, odd_labels)
@example("m", {"x": "1", "y": "2"}, "m", {'x="1",y': "2"})
@example("m{a", {"b": "1"}, "m", {"a{b": "1"})
@example('"m"', {}, "m", {})
@example("m", {'"a="': "1"}, "m", {"a=": "1"})
def test_different_series_have_different_texts(metric, tags, other, others):
    same = (metric, tags) == (other, others)

    assert (canonical(metric, tags) == canonical(other, others)) == same


@given(st.one_of(names, odd_names), st.dictionaries(st.one_of(names, odd_names), names, max_size=3))
def test_a_text_can_be_read_back(metric, tags):
    """So no two series can have one, however many were tried."""
    text = canonical(metric, tags)

    def take(pattern):
        nonlocal text
        found = re.match(pattern, text, re.DOTALL)
        text = text[found.end() :]
        return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[1] or found[2] or "")

    name = r'(?:"((?:[^"\\]|\\.)*)"|([^"\\\n,={}]+))'
    read, labels = take(name), {}
    take(r"(\{)()")
    while not text.startswith("}"):
        key = take(name)
        labels[key] = take(r'="((?:[^"\\]|\\.)*)"()')
        take(r"(,?)()")

    assert (read, labels, text) == (metric, tags, "}")
