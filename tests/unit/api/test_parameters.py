"""Parameters as Prometheus reads them."""

from __future__ import annotations

import pytest

from varve.api.parameters import Parameters
from varve.model.errors import BadRequest


def test_of_a_parameter_given_twice_the_first_counts():
    given = Parameters([("time", "1"), ("time", "2")])

    assert given.get("time") == "1"
    assert given.all("time") == ["1", "2"]


@pytest.mark.parametrize("text", ["", "1", "up offset 5m", "up[5m]", "{", '{job=~"("}', "{}"])
def test_match_takes_nothing_but_a_plain_selector(text):
    with pytest.raises(BadRequest):
        Parameters([("match[]", text)]).matchers(required=True)
