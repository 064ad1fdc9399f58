import pytest

from varve.forecast.resources import BELOW, ResourcesFile, Threshold, parse
from varve.model.errors import NeedsOperator
from varve.model.resources import conf_dir


def test_a_resource_has_a_threshold_of_its_own_or_of_another_metric():
    text = """
    [resource.disk]
    match = { __name__ = "free", host = "a|b" }
    threshold = { metric = "size", times = 0.05 }
    reached = "below"
    floor = 0
    [resource.queue]
    match = { __name__ = "depth" }
    threshold = 100
    alert = false
    [resource.only]
    match = { __name__ = "x" }
    """
    disk, only, queue = parse(text, "here")
    assert disk.threshold == Threshold(0.05, "size")
    assert (disk.reached, disk.floor, disk.alert) == (BELOW, 0.0, True)
    assert (queue.threshold, queue.alert) == (Threshold(100.0), False)
    assert only.threshold is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[resource.a", "not valid TOML"),
        ("[other]", "there is no [other]"),
        ("[resource.a]\nmatch = 1", "match: a regex"),
        ("[resource.a]\nmatch = { x = '(' }", "match: the pattern of x"),
        ("[resource.a]\nmatch = { x = 'a' }\nthreshold = 'many'", "'many' is not a number"),
        ("[resource.a]\nmatch = { x = 'a' }\nthreshold = nan", "nan is not a number"),
        (
            "[resource.a]\nmatch = { x = 'a' }\nthreshold = { times = 1 }",
            "threshold is a number or",
        ),
        ("[resource.a]\nmatch = { x = 'a' }\nreached = 'over'", 'reached is "above" or "below"'),
        ("[resource.a]\nmatch = { x = 'a' }\nfloor = 2\ncap = 1", "floor must be below cap"),
        ("[resource.a]\nmatch = { x = 'a' }\ntreshold = 2", "there is no treshold"),
        ("resource = 3", "a section is wanted"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, says):
    with pytest.raises(NeedsOperator, match="^here") as raised:
        parse(text, "here")
    assert says in str(raised.value)


def test_the_shipped_file_is_well_formed_and_one_that_breaks_changes_nothing(tmp_path):
    own = tmp_path / "capacity.toml"
    file = ResourcesFile([own, conf_dir() / "capacity.toml"])
    assert {r.name for r in file.current()} >= {"filesystem", "shop-disk"}
    own.write_text("[resource.mine]\nmatch = { __name__ = 'x' }")
    assert [r.name for r in file.current()] == ["mine"]
    own.write_text("[resource.mine]\nmatch = broken")
    assert [r.name for r in file.current()] == ["mine"]
