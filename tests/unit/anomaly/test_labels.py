import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import WrittenTables
from varve.anomaly.episode_rows import event_rows
from varve.anomaly.episodes import Deviation, Track
from varve.anomaly.labels import EXPECTED, REAL, best_threshold, labels, put_label, quality
from varve.anomaly.rules import Rule
from varve.cli.main import main
from varve.model.errors import BadRequest
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

MINUTE = 60_000


@pytest.fixture
def store(tmp_path):
    """Episodes of three series with scores 10, 20 and 30."""
    store = WrittenTables(str(tmp_path / "tables")).store
    events = [
        event
        for series in (1, 2, 3)
        for event in Track(series).advance(
            [Deviation(MINUTE, 1.0, 0.0, 10.0 * series, 0)], 60 * MINUTE, Rule()
        )
    ]
    file = write_file(store, "episodes", event_rows(events, 0))
    commit(Table(store, "episodes"), [file], transactions={"events:anomalies": Step(None, 0)})
    return store


def test_a_label_is_kept_and_a_later_one_counts(store, tmp_path, capsys):
    home = str(tmp_path)
    assert main(["anomalies", "list", "--hours", "1000000", "--json", "--home", home]) == 0
    first, *_ = episodes = json.loads(capsys.readouterr().out)
    assert len(episodes) == 3
    for label in (EXPECTED, REAL):
        assert main(["anomalies", "label", first["episode_id"][:8], label, "--home", home]) == 0
    assert labels(store) == {first["episode_id"]: REAL}
    assert main(["anomalies", "quality", "--home", home]) == 0
    assert "100%" in capsys.readouterr().out


def test_a_prefix_of_none_or_of_several_is_refused(store):
    with pytest.raises(BadRequest, match="no episode begins with 'zz'"):
        put_label(store, "zz", REAL, 1)
    with pytest.raises(BadRequest, match="no episode begins with ''"):
        put_label(store, "", REAL, 1)


def test_precision_is_of_those_that_are_labelled():
    rows = [
        {"episode_id": str(n), "rule": "a", "state": "closed", "score": float(n)} for n in range(8)
    ]
    rows.append({"episode_id": "x", "rule": "a", "state": "withdrawn", "score": 1.0})
    said = {str(n): REAL if n >= 4 else EXPECTED for n in range(2, 8)}
    (found,) = quality(rows, said)
    assert (found.episodes, found.real, found.expected) == (8, 4, 2)
    assert found.precision == pytest.approx(4 / 6)
    assert found.threshold == 4.0


@given(st.lists(st.tuples(st.floats(3, 100), st.booleans()), max_size=30))
def test_no_other_threshold_has_a_better_f1(judged):
    found = best_threshold(judged)

    def f1(threshold):
        kept = [real for score, real in judged if score >= threshold]
        return 2 * sum(kept) / max(len(kept) + sum(real for _, real in judged), 1)

    if found is not None:
        assert f1(found) == pytest.approx(max(f1(score) for score, _ in judged))
