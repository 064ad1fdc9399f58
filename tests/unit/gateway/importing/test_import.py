"""Files become parts, each is sent until it is taken, and none is sent by a second run."""

from __future__ import annotations

import datetime as dt

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.gateway.served import STALE, ServedGateway
from varve.access.credentials import Credentials
from varve.gateway.importing import sources
from varve.gateway.importing.sender import ImportSender
from varve.gateway.importing.sources import parts_of
from varve.gateway.lane import Overloaded
from varve.model.errors import BadRequest, NeedsOperator


def history(series=50, samples=200):
    lines = ["# TYPE requests counter", "# HELP requests Requests."]
    lines += [
        f'requests_total{{n="{n}"}} {n + i} {1_700_000_000 + i * 15}'
        for n in range(series)
        for i in range(samples)
    ]
    lines += ["# TYPE depth gauge", "depth 1.5 1700000000.5"]
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture
def served():
    with ServedGateway() as served:
        yield served


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sources, "_CHUNK_BYTES", 20_000)


def sender(served, tmp_path, told=lambda _: None, sleep=lambda _: None):
    return ImportSender(httpx.Client(base_url=served.url), tmp_path / "imports", told, sleep)


def test_every_sample_of_an_open_metrics_file_arrives_with_its_type(served, tmp_path, small_chunks):
    file = tmp_path / "history.om"
    file.write_text(history())
    done = []

    outcome = sender(served, tmp_path).send(file, done.append, dry_run=False)

    assert len(done) > 10
    assert done[-1].done == done[-1].total == file.stat().st_size
    assert (outcome.taken, outcome.refused) == (50 * 200 + 1, 0)
    found = served.lane.samples()
    assert found[("__name__", "depth"),] == [(1_700_000_000_500, 1.5)]
    for n in range(50):
        assert found[("__name__", "requests_total"), ("n", str(n))] == [
            ((1_700_000_000 + i * 15) * 1000, float(n + i)) for i in range(200)
        ]
    assert served.lane.kinds == {"requests_total": "counter", "depth": "gauge"}


def test_a_run_goes_on_where_the_one_before_it_ended(served, tmp_path, small_chunks):
    file = tmp_path / "history.om"
    file.write_text(history())

    class Interrupted(Exception):
        pass

    def third(part):
        if part.number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        sender(served, tmp_path).send(file, third, dry_run=False)
    before = len(served.lane.rows)
    outcome = sender(served, tmp_path).send(file, lambda _: None, dry_run=False)
    again = sender(served, tmp_path).send(file, lambda _: None, dry_run=False)

    assert 0 < before == outcome.skipped
    assert outcome.taken + outcome.skipped == again.skipped == 10_001
    assert len(served.lane.rows) == 10_001
    file.write_text(history(1, 1))  # another file by the same name
    assert sender(served, tmp_path).send(file, lambda _: None, dry_run=False).taken == 2


def test_overload_is_waited_for(served, tmp_path):
    file = tmp_path / "history.om"
    file.write_text(history(1, 1))
    served.lane.error = Overloaded("no room")
    told, pauses = [], []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            served.lane.error = None

    outcome = sender(served, tmp_path, told.append, sleep).send(file, lambda _: None, dry_run=False)

    assert outcome.taken == 2
    assert pauses == [5.0, 5.0, 5.0]
    assert "no room" in told[0]


def test_a_dry_run_sends_nothing(served, tmp_path):
    file = tmp_path / "history.om"
    file.write_text(history(2, 3))

    assert sender(served, tmp_path).send(file, lambda _: None, dry_run=True).taken == 7
    assert not served.lane.rows
    assert not (tmp_path / "imports").exists()


def test_parquet_rows_arrive(served, tmp_path):
    moments = [dt.datetime.fromtimestamp(s, dt.UTC) for s in (1, 2, 3)]
    table = pa.table(
        {
            "metric": ["a", "a", "b"],
            "ts": pa.array(moments, pa.timestamp("us", "UTC")),
            "value": [1.5, None, 2.0],
            "tags": pa.array([{"x": "1"}, {"x": "1"}, {}], pa.map_(pa.string(), pa.string())),
            "type": ["gauge", "gauge", None],
        }
    )
    pq.write_table(table, tmp_path / "h.parquet")

    outcome = sender(served, tmp_path).send(tmp_path / "h.parquet", lambda _: None, dry_run=False)

    assert outcome.taken == 3
    assert served.lane.samples() == {
        (("__name__", "a"), ("x", "1")): [(1000, 1.5), (2000, STALE)],
        (("__name__", "b"),): [(3000, 2.0)],
    }
    assert served.lane.kinds["a"] == "gauge"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.om", "a 1 1\n", "EOF"),
        ("x.om", "a 1\n# EOF\n", "without time"),
        ("x.om", "# TYPE a counter\na 1 1\nb{ 1 1\n# EOF\n", "line 1"),
        ("x.om", "a 1 1\n# EOF\nb 1 1\n", "EOF"),
        ("x.parquet", "no", "Parquet"),
        ("x.csv", "no", "ends with"),
    ],
)
def test_a_file_that_cannot_be_is_named(tmp_path, name, content, why):
    (tmp_path / name).write_text(content)

    with pytest.raises(BadRequest, match=why):
        list(parts_of(tmp_path / name))


def test_a_gateway_that_knows_nobody_of_the_name_ends_the_run(tmp_path):
    (tmp_path / "x.om").write_text("a 1 1\n# EOF\n")
    with (
        ServedGateway(credentials=Credentials({"team": "secret"}, {})) as served,
        pytest.raises(NeedsOperator, match="401"),
    ):
        sender(served, tmp_path).send(tmp_path / "x.om", lambda _: None, dry_run=False)
