"""Texts have the same order as Python gives them."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.labels import text_order

texts = st.lists(st.text(st.characters() | st.sampled_from("a\x00\udc80\uffff\U0001f600")))


@given(texts, st.integers(1, 3))
def test_the_order_is_that_of_code_points(values, piece):
    with mock.patch.object(text_order, "_TEXTS_A_PIECE", piece):
        order = text_order.text_order(values, np.arange(len(values)))

    assert order.tolist() == sorted(range(len(values)), key=values.__getitem__)


@given(texts)
def test_many_texts_are_sorted_like_few(values):
    with mock.patch.object(text_order, "_FEW", 0):
        assert text_order.sorted_texts(values) == sorted(values)
