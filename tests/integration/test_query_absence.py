"""An answer without series says which of three things is the reason."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.integration.faulty_store import FaultyStore
from tests.integration.test_query_follow import opened
from tests.tables import WrittenTables
from varve.model.identity import define
from varve.query import absence
from varve.query.evaluation import Options, Range, evaluate
from varve.query.file_table import FileTable
from varve.query.tables import Tables
from varve.storage.snapshot import snapshot

NINE = 1_795_338_000_000  # 2026-11-22T09:00:00Z
HOUR = 3_600_000
SERIES = [
    define("node_load1", {"job": "node", "instance": "h0"}),
    define("node_load1", {"job": "node", "instance": "h1"}),
    define("node_load15", {"job": "node", "instance": "h0"}),
    define("shop_requests_total", {"job": "shop", "route": "/r0"}),
    define("other", {"a": "x"}),
]
INFO = "PromQL info: "


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """h0 of node_load1 ends at 09:00, h1 at 08:50:30; the others begin at 12:00."""
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define(SERIES, NINE)
    for k in range(10):
        tables.put([(SERIES[0].series_id, NINE - k * HOUR, 1.0)])
    tables.put([(SERIES[1].series_id, NINE - 570_000, 1.0)])
    tables.put([(SERIES[0].series_id, NINE + 1_000, None)])
    tables.put([(s.series_id, NINE + 3 * HOUR, 1.0) for s in SERIES[2:]], complete_ms=NINE)
    return tables


@pytest.fixture(scope="module", params=["head", "files"])
def view(request, tables):
    followed = opened(tables)
    if request.param == "head":
        return followed.view
    files = FileTable(snapshot(tables.store, "samples").files)
    return replace(followed.view, head=(), files=files)


def infos(view, query, at=NINE + 2 * HOUR, **options):
    answer = evaluate(view, query, at, Options(say_why_empty=True, **options))
    assert not len(answer.result.order)
    return [text.removeprefix(INFO) for text in answer.result.infos]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("node_lod1", 'unknown metric "node_lod1", but there is "node_load1" or "node_load15"'),
        ("requests_shop_total", 'unknown metric "requests_shop_total", but there is'),
        ("xyz", 'unknown metric "xyz"'),
        ('sum(rate({"über"}[5m]))', 'unknown metric "über"'),
        (
            'node_load1{job="nod"}',
            'no series of "node_load1" with job="nod": job is "node"',
        ),
        (
            'node_load1{instance="x"}',
            'no series of "node_load1" with instance="x": instance is "h0" or "h1"',
        ),
        (
            'node_load1{instanc="h0"}',
            'no series of "node_load1" with instanc="h0": they have no label instanc, but there is',
        ),
        (
            'node_load1{job=~"a|b"}',
            'no series of "node_load1" with job=~"a|b"',
        ),
        (
            'node_load15{job="node", instance!="h0", instance=~"h.*"}',
            'no series of "node_load15" with instance!="h0"',
        ),
        ('{job="shop", a="x"}', 'no series with job="shop", a="x" together'),
        ('{job="shp"}', 'no series with job="shp": job is "shop"'),
        ("node_load1", '"node_load1" ended at 2026-11-22T09:00:01Z'),
        ('node_load1{instance="h1"}', '"node_load1" ended at 2026-11-22T08:50:30Z'),
        ('{instance="h1"}', "the series ended at 2026-11-22T08:50:30Z"),
        ("rate(node_load1[10m])", '"node_load1" ended at 2026-11-22T09:00:01Z'),
        ("node_load15", '"node_load15" began at 2026-11-22T12:00:00Z, later than asked for'),
    ],
)
def test_it_says_which(view, query, why):
    (said,) = infos(view, query)

    assert said.startswith(why)


def test_each_selector_has_its_reason_once(view):
    assert infos(view, "xyz / node_load15 + xyz") == [
        'unknown metric "xyz"',
        '"node_load15" began at 2026-11-22T12:00:00Z, later than asked for',
    ]


def test_a_range_query_says_it_too(view):
    times = Range(NINE + HOUR, NINE + 2 * HOUR, 60_000)

    assert infos(view, "node_load1", times) == ['"node_load1" ended at 2026-11-22T09:00:01Z']


@pytest.mark.parametrize(
    "query",
    ["node_load1 > 5", "node_load1 unless node_load1", "node_load1 and on (x) vector(1) == 2"],
)
def test_an_answer_that_its_operators_left_empty_needs_no_reason(view, query):
    assert infos(view, query, NINE) == []


def test_nothing_is_looked_for_unless_it_is_wanted_or_the_answer_is_empty(view):
    silent = evaluate(view, "xyz", NINE, Options())
    other = evaluate(view, "node_load1 or xyz", NINE, Options(say_why_empty=True))

    assert silent.result.infos == []
    assert other.result.infos == []


def test_an_answer_stands_where_the_reason_cannot_be_found_out(tables):
    store = FaultyStore(tables.store.root)
    followed = Tables(store, ["bulk"], 16 << 20)
    files = FileTable(snapshot(tables.store, "samples").files)
    cold = replace(followed.view, head=(), files=files)
    store.fault.arm(0, 1 << 40)

    assert infos(cold, "node_load1", NINE + 30 * 24 * HOUR) == []


def test_a_name_is_looked_for_among_many_in_no_time(tmp_path):
    tables = WrittenTables(str(tmp_path))
    many = [define(f"svc_{i % 97}_requests_{i}_total", {}) for i in range(30_000)]
    tables.define([*many, define("svc_requests_total", {})], NINE)
    view = opened(tables).view

    began = time.process_time()
    (said,) = infos(view, "svc_request_total")

    assert said.startswith('unknown metric "svc_request_total", but there is "svc_requests_total"')
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("node_lod1", 'unknown metric "node_lod1"'),
        ('{job="nod"}', 'no series with job="nod"'),
        ('{jo="nod"}', 'no series with jo="nod": they have no label jo'),
        ('node_load1{instance="x"}', 'no series of "node_load1" with instance="x"'),
    ],
)
def test_among_very_many_nothing_is_looked_for(view, monkeypatch, query, why):
    monkeypatch.setattr(absence, "_MOST_NAMES", 1)

    assert infos(view, query) == [why]


def test_few_files_are_read_for_the_reason_whatever_there_are(tables, monkeypatch):
    store = FaultyStore(tables.store.root)
    followed = Tables(store, ["bulk"], 16 << 20)
    while not followed.caught_up:
        followed.poll()
    files = FileTable(snapshot(tables.store, "samples").files)
    cold = replace(followed.view, head=(), files=files)
    monkeypatch.setattr(absence, "_READ", 2)
    before = store.fault.passing

    said = infos(cold, "node_load1", NINE + 2 * HOUR)

    assert said == ['"node_load1" ended at 2026-11-22T09:00:01Z']
    assert len(files) == 13
    assert 0 < before - store.fault.passing <= 4  # two footers and two row groups
