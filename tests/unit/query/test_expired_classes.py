"""Series of retention classes expire before the others: no answer leaves them out without a word.

The tables are expired by the batch job that does so; the oracle has all samples that ever were, and
the marks as the job was told to set them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import cramjam
import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.tables import QUERY
from tests.unit.query.far_queries import SHAPES, InProcess, check_far
from tests.unit.query.tier_queries import (
    FORCED,
    FUNCTION_NAMES,
    SPAN_MS,
    Leaf,
    Question,
    T,
    ask,
    bound,
    build,
    compare,
    found,
    question,
)
from varve.access.browsers import BrowserRules
from varve.api.app import create_app
from varve.api.service import Service
from varve.gateway.protobuf import delimited_field, write_varint
from varve.ingest.retention_classes import TABLES, RetentionClass
from varve.maintenance.expiry import Expiration, Retention
from varve.model.clock import ManualClock
from varve.model.series_matcher import SeriesMatcher
from varve.model.window import DAY_MS, HOUR_MS, RAW, TIERS
from varve.promql.errors import QueryError
from varve.promql.evaluation.limits import Limits
from varve.query import tier_choice
from varve.query.evaluation import Options, Range, evaluate, explain
from varve.query.snapshots import Snapshots
from varve.query.tables import Tables
from varve.storage.snapshot import snapshot

CACHE_BYTES = 64 << 20
END = T + SPAN_MS
EVERYONE_MS = T + 4 * HOUR_MS
BRIEF = SeriesMatcher.of({"i": "c|g"})
SHORT = SeriesMatcher.of({"i": "g|s", "__name__": "m"})
MARKS = {
    BRIEF: {"samples": T + 40 * HOUR_MS},
    SHORT: {"samples": T + 30 * HOUR_MS, "rollup_1m": T + 18 * HOUR_MS},
}
"""Up to where rows of the classes have expired."""
MEMBERS = {"c": (BRIEF,), "g": (BRIEF, SHORT), "s": (SHORT,), "e": (), "k": ()}
SELECTORS = ("m", "m", 'm{i="c"}', 'm{i="g"}', 'm{i=~"s|k"}', 'm{i=~"e|k"}', 'm{i!="k"}')
RAW_ONLY = ("deriv", "mad_over_time")
OTHERS = Retention(
    {"samples": END - EVERYONE_MS, **{tier.table: 400 * DAY_MS for tier in TIERS}},
    tuple(
        RetentionClass(str(place), matcher, {t: END - until for t, until in marks.items()})
        for place, (matcher, marks) in enumerate(MARKS.items())
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The tables, expired; whole: a view of what they were before."""
    made = build(str(tmp_path_factory.mktemp("classes")), "closed", Random("classes"))
    before = Tables(made.tables.store, [QUERY], CACHE_BYTES)
    versions = before.view.provenance.versions
    before.close()
    job = Expiration(made.tables.store, OTHERS)
    job.run(job.plan(END + 1, {table: snapshot(made.tables.store, table) for table in TABLES}))
    return made, versions


@pytest.fixture(scope="module")
def tables(world):
    opened = Tables(world[0].tables.store, [QUERY], CACHE_BYTES)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _no_selection_is_cheap(monkeypatch):
    monkeypatch.setattr(tier_choice, "CHEAP_SAMPLES", 0)
    monkeypatch.setattr(tier_choice, "_WORTH", 100.0)


def until_ms(name: str) -> int:
    """Up to where samples of a series have expired."""
    return max([EVERYONE_MS, *(MARKS[matcher]["samples"] for matcher in MEMBERS[name])])


def selected(selector: str) -> set[str]:
    """The series that one of SELECTORS selects."""
    _, _, rest = selector.partition('"')
    names = set(rest.rstrip('"}').split("|")) if rest else set(MEMBERS)
    return set(MEMBERS) - names if "!=" in selector else names


def check(world, view, asked: Question) -> str:
    """Raises AssertionError unless each series has the answer of all samples, or its class is
    named, and it differs for windows alone that begin before its mark.
    """
    leaf = asked.leaf
    starts, _ = leaf.windows(times := steps(asked.times))
    names = selected(leaf.selector)
    gone = {name for name in names if (starts < until_ms(name)).any()}
    try:
        answer = ask(view, asked)
    except QueryError as err:
        check_refusal(str(err), names, gone)
        return "refused"
    texts = [w for w in answer.result.warnings if "expired" in w]
    assert bool(texts) is (answer.provenance.is_partial or answer.provenance.moved_ms > 0)
    assert gone or not texts, texts
    unmarked = any("samples up to" in w or "since samples have" in w for w in texts)
    doubtful = {
        name
        for name in gone
        if unmarked or any(m.selector in w for m in MEMBERS[name] for w in texts)
    }
    wanted = found(
        world.engine.range(
            asked.text,
            asked.times.start_ms,
            asked.times.end_ms,
            asked.times.step_ms,
            lookback_ms=asked.lookback_ms,
        )
    )
    got = found(answer.result)
    for name in names:
        late = np.ones(len(times), np.bool_) if name not in doubtful else starts >= until_ms(name)
        at = set(times[late].tolist())
        mine, theirs = (
            {k: {t: v for t, v in values.items() if t in at} for k, values in all_of.items()
             if ("i", name) in k}
            for all_of in (got, wanted)
        )  # fmt: skip
        compare(
            {k: v for k, v in mine.items() if v}, {k: v for k, v in theirs.items() if v},
            bound(world, leaf),
        )  # fmt: skip
    kind = "partial" if answer.provenance.is_partial else "exact"
    if answer.provenance.moved_ms:
        kind = "approximate"
    tiers = answer.provenance.selectors[0].tiers
    return f"{kind} {'mixed' if tiers[0] != RAW and len(gone) < len(names) else 'whole'}"


def check_refusal(text: str, names: set[str], gone: set[str]) -> None:
    """The others are not made to fail by a class, and the class is named."""
    assert "have expired" in text
    assert gone, text
    if all(MEMBERS[name] for name in gone):
        assert gone == names, text
        assert any(m.selector in text for name in gone for m in MEMBERS[name]), text


def steps(times: Range) -> np.ndarray:
    return np.arange(times.start_ms, times.end_ms + 1, times.step_ms, dtype=np.int64)


@pytest.mark.parametrize("tier", FORCED)
def test_a_series_of_a_class_has_its_answer_or_a_word_of_it(world, tables, tier):
    made, _ = world
    rng = Random(f"classes {tier}")
    kinds = Counter()
    names = (*FUNCTION_NAMES, *RAW_ONLY)
    for i in range(100):
        asked = question(rng, names[i % len(names)], tier, "expired")
        asked = replace(asked, leaf=replace(asked.leaf, selector=rng.choice(SELECTORS)))
        try:
            kinds[check(made, tables.view, asked)] += 1
        except AssertionError as err:
            err.add_note(f"{asked.text}  {asked}")
            raise

    assert sum(n for kind, n in kinds.items() if kind.startswith("exact")) > 20, kinds
    assert any(kind.startswith("partial") for kind in kinds), kinds
    if tier != RAW:
        assert sum(n for kind, n in kinds.items() if kind.endswith("mixed")) > 3, kinds


def test_executors_answer_classes_as_this_process_does(world, tables):
    made, _ = world
    rng = Random("far classes")
    executors = InProcess(made.tables.store)
    for i in range(40):
        asked = question(
            rng, FUNCTION_NAMES[i % len(FUNCTION_NAMES)], rng.choice(FORCED), "expired"
        )
        asked = replace(asked, leaf=replace(asked.leaf, selector=rng.choice(SELECTORS)))
        expression = rng.choice(SHAPES).format(asked.text)
        try:
            check_far(tables.view, asked, expression, executors)
        except AssertionError as err:
            err.add_note(f"{expression}  {asked}")
            raise

    assert executors.tasks > executors.jobs > 20


def days(leaf: Leaf, step_ms: int = HOUR_MS) -> Question:
    """From just after the mark of all series up to the end."""
    begin = EVERYONE_MS + leaf.range_ms
    return Question(leaf, Range(begin, END, step_ms), None)


def test_the_class_is_answered_from_rows_where_its_samples_are_gone(world, tables):
    made, _ = world
    whole = days(Leaf("sum_over_time", HOUR_MS, selector='m{i="c"}'))

    answer = ask(tables.view, whole)

    assert answer.result.warnings == []
    assert answer.provenance.selectors[0].tiers[0] == "1h"
    assert check(made, tables.view, whole).startswith("exact")


def test_an_aggregation_counts_the_series_of_every_group(world, tables):
    text = "sum(count_over_time(m[1h]))"
    made, _ = world
    asked = days(Leaf("count_over_time", HOUR_MS, selector="m"))
    times = asked.times

    answer = evaluate(tables.view, text, times, Options())
    plan = explain(tables.view, text, times, Options(), run=True)

    wanted = made.engine.range(text, times.start_ms, times.end_ms, times.step_ms)
    compare(found(answer.result), found(wanted), 0.0)
    assert BRIEF.selector in "".join(plan)


def test_a_function_of_samples_names_the_class_that_it_lacks(tables):
    at = T + 20 * HOUR_MS
    both = evaluate(tables.view, 'deriv(m{i=~"c|k"}[1h])', at, Options())

    (text,) = both.result.warnings
    assert f"samples of the series {BRIEF.selector} up to" in text
    assert both.provenance.is_partial
    assert len(both.result.order) == 1
    with pytest.raises(QueryError, match="have expired") as err:
        evaluate(tables.view, 'deriv(m{i="c"}[1h])', at, Options())
    assert BRIEF.selector in str(err.value)
    assert evaluate(tables.view, 'deriv(m{i="k"}[1h])', at, Options()).result.warnings == []


def test_rows_of_a_tier_that_have_expired_for_a_class_are_named_with_it(tables):
    """Forced to 1m, whose rows of the class go no further back."""
    asked = Question(
        Leaf("max_over_time", 5 * 60_000, selector='m{i="s"}'),
        Range(T + 10 * HOUR_MS, T + 25 * HOUR_MS, 5 * 60_000),
        "1m",
    )

    (text, *_) = ask(tables.view, asked).result.warnings

    assert SHORT.selector in text
    assert "1m rows" in text or "samples" in text


def test_as_of_a_version_before_the_expiry_nothing_is_missing(world, tables):
    made, versions = world
    snapshots = Snapshots(made.tables.store, [QUERY], lambda: tables.view)
    asked = days(Leaf("deriv", HOUR_MS, selector="m"))

    before = ask(snapshots.at(versions), asked)
    after = ask(snapshots.at(tables.view.provenance.versions), asked)

    assert before.result.warnings == []
    times = asked.times
    wanted = made.engine.range(asked.text, times.start_ms, times.end_ms, times.step_ms)
    compare(found(before.result), found(wanted), 0.0)
    assert after.provenance.is_partial


def test_what_has_no_warnings_says_in_its_headers_that_it_is_partial(tables):
    rules = BrowserRules.of(["testserver"], [])
    service = Service(
        Options(Limits()), ManualClock(END), lambda: tables.view, lambda: "", browsers=rules
    )
    matcher = delimited_field(2, b"i") + delimited_field(3, b"c")
    found = {}
    with TestClient(create_app(service)) as client:
        for begin in (T + 39 * HOUR_MS, T + 41 * HOUR_MS):
            times = b"\x08" + write_varint(begin) + b"\x10" + write_varint(END)
            query = delimited_field(1, times + delimited_field(3, matcher))
            body = bytes(cramjam.snappy.compress_raw(query))
            answer = client.post("/api/v1/read", content=body)
            found[begin] = answer.headers["Varve-Partial"]
        federated = client.get("/federate", params={"match[]": "m"})

    assert list(found.values()) == ["true", "false"]
    assert federated.headers["Varve-Partial"] == "false"


def test_windows_past_the_marks_are_not_looked_at_twice(tables, monkeypatch):
    monkeypatch.setattr(
        "varve.query.series_groups.matching", lambda *_: pytest.fail("labels were compared")
    )
    end = END - HOUR_MS

    answer = evaluate(tables.view, 'rate(m{i!~"x"}[1h])', end, Options(tier=RAW))

    assert len(answer.result.order)
    assert not answer.provenance.is_partial
