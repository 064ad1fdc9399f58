import time
import tracemalloc

import numpy as np
import pytest

from tests.unit.promql.asking import storage_of
from tests.unit.promql.fuzzing import Fuzzer, Judge, corpus, seeded
from varve.promql import errors
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.workers import Workers
from varve.promql.explain import explain
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.cursor import ParseError
from varve.promql.testing import MemoryStorage

TEXTS = 300


@pytest.mark.parametrize("seed", range(3))
def test_any_text_gives_an_answer_or_an_error_in_time(seed):
    r = seeded(seed)
    fuzzer, judge = Fuzzer(r, corpus("nowhere")), Judge(r)

    for _ in range(TEXTS):
        query = fuzzer.text()
        why = judge.wrong(query)
        assert why is None, f"{query[:500]!r}: {why}"

    assert all(judge.kinds.values())


@pytest.mark.parametrize(
    ("before", "inside", "after"),
    [
        ("(", "a", ")"),
        ("-", "a", ""),
        ("abs(", "a", ")"),
        ("sum(", "a", ")"),
        ("a^", "a", ""),
        ("max_over_time((", "a", ")[5m:1m])"),
        ("", "a", "[5m:1m]"),
        ("a[1s+(", "1", ")]"),
    ],
)
def test_ten_thousand_levels_are_an_error_at_once(before, inside, after):
    began = time.process_time()

    with pytest.raises(ParseError) as refused:
        Engine(MemoryStorage.empty()).instant(before * 10_000 + inside + after * 10_000, 0)

    assert refused.value.span.end <= 10_000 * len(before + after) + 1
    assert time.process_time() - began < 5


def test_a_bomb_can_be_explained_and_is_refused():
    engine = Engine(storage_of(a=[(0, 1.0)]), Options(workers=Workers(2, worthwhile=0)))
    bomb = "sum_over_time(sum_over_time(a[99y:1ms])[99y:1ms]) + a"

    assert "steps" in explain(engine, bomb, 0, 2**50, 2**45)
    with pytest.raises(errors.LimitError, match="max_samples"):
        engine.range(bomb, 0, 2**50, 2**45)


def test_a_plan_thousands_of_operators_long_can_be_explained():
    text = explain(Engine(storage_of(a=[(0, 1.0)])), "a" + " + a" * 5000, 0, 0, 0)

    assert text.count("operator +") == 5000


@pytest.mark.parametrize(
    "query",
    [
        "a @ 9223372036854775 offset -292y",
        "a @ -9223372036854775 offset 292y",
        "sum_over_time(a[292y] @ -9223372036854775)",
        "max_over_time(a[292y:290y] @ -9223372036854775)",
    ],
)
def test_the_ends_of_time_hold_no_samples(query):
    engine = Engine(storage_of(a=[(0, 1.0), (2**62, 2.0), (-(2**62), 2.0)]))

    assert len(engine.instant(query, 0).order) == 0


def test_a_value_a_label_is_not_made_beyond_the_limit():
    rows = [{"__name__": "a", "i": str(i)} for i in range(1000)]
    ts = np.zeros(1000, dtype=np.int64)
    storage = MemoryStorage.from_columns(
        LabelTable.of(rows), np.arange(1001), ts, np.arange(1000) / 7
    )
    engine = Engine(storage, Options(limits=Limits(max_samples=200_000)))
    engine.instant("a", 0)
    tracemalloc.start()

    with pytest.raises(errors.LimitError, match="max_samples"):
        engine.range('count_values("v", a + time() / 3)', 0, 100_000, 1000)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
