"""Native histograms and exemplars in tables answer queries as those in memory do."""

import json
import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.fs import FileSelector

from tests.tables import WrittenTables
from tests.unit.promql.asking import labels
from varve.maintenance.compaction import due_merges, merge_files
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.staleness import STALE_NAN
from varve.promql import result_json
from varve.promql.engine import Engine
from varve.promql.errors import StorageError
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.stored_rows import row_of
from varve.promql.syntax.parser import parse
from varve.promql.testing import MemoryStorage
from varve.query.evaluation import Options, Range, evaluate
from varve.query.exemplar_reader import exemplars_of
from varve.query.snapshots import Snapshots
from varve.query.tables import Tables
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

T = 1_795_737_600_000
STEP_MS = 15_000
FIRST = T + 1_000
DAY_MS = 86_400_000
LATENCY = [labels("latency", instance=str(n)) for n in range(4)]
UP = labels("up", job="a")
QUERIES = [
    "latency",
    "rate(latency[2m])",
    "increase(latency[1m])",
    "sum(rate(latency[2m]))",
    "histogram_quantile(0.9, sum(rate(latency[2m])))",
    "histogram_count(latency) / histogram_sum(latency)",
    "count_over_time(latency[3m])",
    "last_over_time(latency[1m])",
    'latency{instance="1"} and on() up',
    'absent(latency{instance="9"})',
]


def definition(key):
    tags = dict(key)
    return define(tags.pop("__name__"), tags)


def put(tables, table, rows):
    """One commit of rows to a record table."""
    handle = Table(tables.store, table)
    held = handle.position("test:0")
    made = pa.Table.from_pylist(
        sorted(rows, key=lambda row: (row["series_id"], row["ts"])),
        schema=table_schema(table).arrow,
    )
    step = Step(held, (held or 0) + 1)
    commit(handle, [write_file(tables.store, table, made)], transactions={"test:0": step})


def histogram_rows(key, points):
    return [
        {"series_id": definition(key).series_id, "ts": ts} | row_of(value) for ts, value in points
    ]


def points_of(chance, count=40):
    """A counter that is sometimes reset, changes its resolution, or ends."""
    found, total, schema = [], {}, 3
    for n in range(count):
        chosen = chance.random()
        if chosen < 0.05:
            found.append((FIRST + n * STEP_MS, None))
            continue
        if chosen < 0.1:
            total = {}
        if chosen > 0.97:
            schema = chance.choice([1, 3])
            total = {}
        for _ in range(3):
            index = chance.randint(-4, 9)
            total[index] = total.get(index, 0.0) + chance.randint(1, 5)
        size = sum(total.values())
        found.append(
            (FIRST + n * STEP_MS, FloatHistogram(schema, size, size * 0.3, positive=dict(total)))
        )
    return found


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


@pytest.fixture
def data():
    chance = random.Random(7)
    return {key: points_of(chance) for key in LATENCY}


def in_memory(data):
    series = {
        key: [(ts, STALE_NAN if value is None else value, 0) for ts, value in points]
        for key, points in data.items()
    }
    series[UP] = [(T + n * STEP_MS, 1.0, 0) for n in range(40)]
    return MemoryStorage.of(series)


def written(tables, data, *, batches=7):
    """Several commits, the last of which repeats rows of the others."""
    tables.define([definition(key) for key in (*data, UP)])
    up = definition(UP).series_id
    tables.put([(up, T + n * STEP_MS, 1.0) for n in range(40)])
    rows = [row for key, points in data.items() for row in histogram_rows(key, points)]
    random.Random(3).shuffle(rows)
    cuts = np.linspace(0, len(rows), batches + 1).astype(int).tolist()
    for begin, end in pairwise(cuts):
        put(tables, "histograms", rows[begin:end])
    put(tables, "histograms", rows[: len(rows) // 3])


def shown(result):
    """Series, times and values of an answer."""
    return json.loads(result_json.to_json(result))["result"]


def answers(view, query):
    times = Range(T, T + 40 * STEP_MS, 30_000)
    return shown(evaluate(view, query, times, Options()).result)


def expected(storage, query):
    return shown(Engine(storage).range(query, T, T + 40 * STEP_MS, 30_000))


def opened(tables):
    followed = Tables(tables.store, ["bulk"], 16 << 20)
    while not followed.caught_up:
        followed.poll()
    return followed


@pytest.mark.parametrize("query", QUERIES)
def test_histograms_answer_as_those_in_memory_do(tables, data, query):
    written(tables, data)
    followed = opened(tables)

    found = answers(followed.view, query)

    assert found == expected(in_memory(data), query)
    assert found
    followed.close()


def test_compaction_changes_no_answer(tables, data):
    written(tables, data)
    before, dropped = len(snapshot(tables.store, "histograms").files), 0
    while due := due_merges(snapshot(tables.store, "histograms"), T + DAY_MS):
        dropped += sum(merge_files(tables.store, merge).rows_dropped for merge in due)
    assert dropped > 0
    assert len(snapshot(tables.store, "histograms").files) < before / 2
    followed = opened(tables)

    for query in QUERIES:
        assert answers(followed.view, query) == expected(in_memory(data), query)
    followed.close()


def test_what_is_committed_is_seen_at_the_next_poll_and_not_before_it_by_a_token(tables, data):
    first, second = LATENCY[:2]
    written(tables, {first: data[first]})
    followed = opened(tables)
    before = followed.view
    tables.define([definition(second)])
    put(tables, "histograms", histogram_rows(second, data[second]))

    assert followed.poll()

    both = {key: data[key] for key in (first, second)}
    assert answers(followed.view, "latency") == expected(in_memory(both), "latency")
    snapshots = Snapshots(tables.store, ["bulk"], lambda: followed.view)
    old = snapshots.at(before.provenance.versions)
    assert answers(old, "latency") == expected(in_memory({first: data[first]}), "latency")
    followed.close()


def test_rollups_do_not_answer_for_series_that_have_histograms(tables, data):
    written(tables, data)
    up = definition(UP).series_id
    tables.put([(up, T + DAY_MS, 1.0)], complete_ms=T + DAY_MS)
    tables.roll_up()
    followed = opened(tables)
    assert followed.view.tiers

    query = "increase(latency[5m])"
    times = Range(T, T + 40 * STEP_MS, 300_000)
    answer = evaluate(followed.view, query, times, Options())

    storage = Engine(in_memory(data)).range(query, T, T + 40 * STEP_MS, 300_000)
    assert shown(answer.result) == shown(storage)
    assert shown(answer.result)
    followed.close()


def test_a_home_without_the_tables_answers_from_samples_and_then_from_both(tmp_path, data):
    tables = WrittenTables.__new__(WrittenTables)
    tables.store = Store(str(tmp_path / "old"))
    create_tables(tables.store, ("samples", "series", "quarantine"))
    key = LATENCY[0]
    tables.define([definition(key), definition(UP)])
    tables.put([(definition(UP).series_id, T, 1.0)])
    followed = opened(tables)
    assert followed.view.records == {}
    assert answers(followed.view, "up")

    create_tables(tables.store)
    put(tables, "histograms", histogram_rows(key, data[key]))
    followed.poll()

    assert answers(followed.view, "latency")
    followed.close()


def test_a_file_that_is_gone_is_a_storage_error(tables, data):
    written(tables, data)
    followed = opened(tables)
    for file in tables.store.filesystem("histograms").get_file_info(
        FileSelector("", recursive=False)
    ):
        if file.extension == "parquet":
            tables.store.filesystem("histograms").delete_file(file.path)

    with pytest.raises(StorageError, match="cannot read samples"):
        answers(followed.view, "latency")
    followed.close()


def exemplars(view, query, start_ms, end_ms):
    matchers = [parse(query).matchers]
    series, found = exemplars_of(view, matchers, start_ms, end_ms, lambda: None, lambda _: None)
    return [
        (labels, [(e.ts_ms, e.value, e.labels) for e in own])
        for labels, own in zip(series.dicts(), found, strict=True)
    ]


def test_exemplars_of_the_selected_series_come_by_time_with_both_ends(tables):
    tables.define([definition(key) for key in LATENCY])
    trace = [("trace_id", "t")]

    def rows(key, *times):
        series_id = definition(key).series_id
        return [{"series_id": series_id, "ts": ts, "value": 0.5, "labels": trace} for ts in times]

    put(tables, "exemplars", rows(LATENCY[1], T + 5, T, T - 1) + rows(LATENCY[2], T + 9))
    put(tables, "exemplars", rows(LATENCY[1], T + 5) + rows(LATENCY[3], T + 11))
    followed = opened(tables)

    found = exemplars(followed.view, 'latency{instance!="3"}', T, T + 9)

    assert found == [
        (dict(LATENCY[1]), [(T, 0.5, trace), (T + 5, 0.5, trace)]),
        (dict(LATENCY[2]), [(T + 9, 0.5, trace)]),
    ]
    assert exemplars(followed.view, "nothing", T, T + 9) == []
    followed.close()
