"""What answers queries forgets series that were trimmed, and gives their memory back."""

import pytest

from tests.tables import WrittenTables
from varve.maintenance.series_trimming import Trimming
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.memory import INDEX, SELECTIONS, UNBOUNDED, MemoryBudget
from varve.query.reader import Reader
from varve.query.snapshots import Snapshots
from varve.query.sql import connect
from varve.query.tables import Tables
from varve.storage.snapshot import snapshot

T = 1_795_338_000_000 // DAY_MS * DAY_MS
NOW = T + 3 * DAY_MS
ANY = Matcher("__name__", MatchOp.EQUAL, "m")
LIVE = [define("m", {"pod": f"live-{n}", "job": "j"}) for n in range(5)]
DEAD = [define("m", {"pod": f"dead-{n}", "job": "j", f"l{n % 50}": "x"}) for n in range(2_000)]


@pytest.fixture
def written(tmp_path):
    """LIVE have samples of now, DEAD have lost theirs."""
    written = WrittenTables(str(tmp_path / "tables"))
    written.define([*LIVE, *DEAD], T)
    stamps = range(NOW - 2 * HOUR_MS, NOW + 1, HOUR_MS // 4)
    written.put(((s.series_id, ts, 1.0) for s in LIVE for ts in stamps), complete_ms=NOW)
    written.roll_up()
    return written


def trim(written):
    job = Trimming(written.store)
    done = job.run(job.plan(NOW, {"series": snapshot(written.store, "series")}))
    assert done.series == len(DEAD)


def opened(written, budget=None):
    tables = Tables(written.store, ["bulk"], 16 << 20, budget)
    settle(tables)
    return tables


def settle(tables):
    tables.poll()
    while not tables.caught_up:
        tables.poll()


def answer(view):
    """All samples there are, by pod."""
    found = Reader(view).select([ANY], T, NOW, SelectHints())
    pods = [labels["pod"] for labels in found.labels.dicts()]
    assert len(pods) == len(found.samples.begins)
    return {
        pod: found.samples.ts[begin:end].tolist()
        for pod, begin, end in zip(pods, found.samples.begins, found.samples.ends, strict=True)
        if end > begin
    }


def test_a_service_that_runs_forgets_them_and_answers_as_before(written):
    tables = opened(written)
    before = answer(tables.view)
    assert len(before) == len(LIVE)

    trim(written)
    settle(tables)

    index = tables.view.index
    assert index.size == len(LIVE)
    assert answer(tables.view) == before
    assert index.label_names([]) == ["__name__", "job", "pod"]
    assert index.label_values("pod", []) == sorted(dict(s.tags)["pod"] for s in LIVE)


def test_memory_is_as_of_a_service_that_has_never_known_them(written):
    budget, fresh = MemoryBudget(UNBOUNDED), MemoryBudget(UNBOUNDED)
    tables = opened(written, budget)
    tables.view.index.find([ANY])
    before = budget.used

    trim(written)
    settle(tables)
    opened(written, fresh)

    assert budget.used[INDEX] == fresh.used[INDEX] < before[INDEX]
    assert budget.used[SELECTIONS] == 0 < before[SELECTIONS]


def test_a_view_from_before_has_them_and_so_has_an_earlier_snapshot(written):
    tables = opened(written)
    before, versions = tables.view, tables.view.provenance.versions

    trim(written)
    settle(tables)

    known = Snapshots(written.store, ["bulk"], lambda: tables.view)
    for view in (before, known.at(versions)):
        assert view.index.size == len(LIVE) + len(DEAD)
        assert len(view.index.find([Matcher("l7", MatchOp.EQUAL, "x")]).series_ids) == 40
        assert answer(view) == answer(tables.view)


def test_one_that_comes_back_is_found_with_its_labels(written):
    tables = opened(written)
    trim(written)
    settle(tables)

    written.define(DEAD[:1], NOW)
    written.put([(DEAD[0].series_id, NOW + 1, 2.0)])
    settle(tables)

    found = Reader(tables.view).select([ANY], NOW, NOW + 1, SelectHints())
    assert "dead-0" in {labels["pod"] for labels in found.labels.dicts()}
    assert tables.view.index.size == len(LIVE) + 1


def test_a_series_that_is_defined_twice_for_a_while_doubles_no_row_of_a_view(written):
    written.define(LIVE[:1], NOW)
    query = "SELECT tags['pod'] AS pod, count(*) FROM raw GROUP BY 1"

    with connect(written.store, query) as database:
        assert {count for _, count in database.execute(query).fetchall()} == {9}
    assert opened(written).view.index.size == len(LIVE) + len(DEAD)
