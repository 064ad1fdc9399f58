import pyarrow as pa
import pytest

from varve.anomaly.rules import RulesFile, parse
from varve.model.errors import NeedsOperator
from varve.model.resources import conf_dir

SERIES = pa.table(
    {
        "metric": ["up", "load", "load"],
        "tags": pa.array(
            [{"job": "a"}, {"job": "a"}, {"job": "b"}], pa.map_(pa.string(), pa.string())
        ),
    }
)


def test_the_first_rule_in_the_file_counts_and_the_rest_is_as_in_default():
    rules = parse(
        """
        [default]
        threshold = 4
        [rule.b]
        match = { job = "b" }
        windows = 5
        [rule.load]
        match = { __name__ = "load" }
        direction = "above"
        """,
        "here",
    )
    numbers = rules.select(SERIES).tolist()
    assert numbers == [0, 2, 1]
    default, b, load = rules.all
    assert (default.threshold, b.threshold, b.windows, load.windows) == (4, 4, 5, 3)
    assert (b.direction, load.direction) == ("both", "above")
    assert rules.named("load") is load
    assert rules.named("gone") is default


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[default", "not valid TOML"),
        ("[rules]", "there is no [rules]"),
        ("[default]\nthreshold = 0.5", "0.5 is below 1"),
        ("[default]\nthreshold = nan", "nan is not a number"),
        ("[default]\nthreshold = 9", "extreme must be at least threshold"),
        ("[default]\nwindows = 1.5", "1.5 is not a whole number"),
        ("[default]\nwindows = true", "True is not a whole number"),
        ("[default]\ndirection = 'up'", "'up' is none of both, above, below"),
        ("[default]\nseason = 'day'", "'day' is none of auto, none"),
        ("[default]\ngroup_by = 'job'", "'job' is not a list of labels"),
        ("[default]\nmatch = { a = 'b' }", "there is no match"),
        ("[rule.a]\nwindows = 2", "match: a regex"),
        ("[rule.a]\nmatch = { a = '(' }", "match: the pattern of a"),
        ("[rule.default]\nmatch = { a = 'b' }", "take another name"),
        ("[rule.a]\nmatch = { a = 'b' }\nlowest = 1", "there is no lowest"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, says):
    with pytest.raises(NeedsOperator, match="^here") as raised:
        parse(text, "here")
    assert says in str(raised.value)


def test_the_shipped_file_says_what_the_defaults_are(tmp_path):
    from varve.anomaly.rules import Rule

    rules = RulesFile([tmp_path / "none.toml", conf_dir() / "anomalies.toml"]).current()
    assert rules.default == Rule()
    assert not rules.named("varve-itself").enabled
