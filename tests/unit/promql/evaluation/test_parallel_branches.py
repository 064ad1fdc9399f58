"""What a query gives does not depend on how many threads it was evaluated on."""

import threading
import time
from collections import Counter
from functools import partial

import pytest

from tests.unit.promql.asking import labels
from tests.unit.promql.differential import differences
from tests.unit.promql.random_queries import ALL
from varve.promql import errors, result_json
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.limits import Budget, Limits
from varve.promql.evaluation.workers import Workers
from varve.promql.testing import MemoryStorage

END = 3_000_000
TWO = "(sum by (i) (rate(x_total[5m])) / sum by (i) (rate(y_total[5m])))"
MANY = f"{TWO} + count(y_total) * quantile(2, x_total)"
MANY += f" or z - (avg(x_total) / max(y_total)) or {TWO} ^ 2"
SHARING = "(max(z) + quantile(2, x_total)) / (1 + quantile(2, x_total))"


def storage():
    return MemoryStorage.of(
        {
            labels(name, i=str(i)): [(t, float(t % (i + 7)), 0) for t in range(0, END, 15_000)]
            for name in ("x_total", "y_total", "z")
            for i in range(20)
        }
    )


class Recording(MemoryStorage):
    """Remembers which threads selected, and lets each wait for another."""

    def __init__(self, inner, parties=1):
        self.inner = inner
        self.threads = set()
        self.barrier = threading.Barrier(parties)

    def count(self, *args):
        return self.inner.count(*args)

    def select(self, *args):
        self.threads.add(threading.get_ident())
        self.barrier.wait(timeout=30)
        return self.inner.select(*args)


def engine(cores, storage, **limits):
    workers = Workers(cores, worthwhile=0) if cores > 1 else None
    return Engine(storage, Options(limits=Limits(**limits), workers=workers))


def answer(cores, query, **limits):
    """The bytes and the figures, or the error."""
    try:
        result = engine(cores, storage(), **limits).range(query, 0, END, 60_000)
    except errors.QueryError as error:
        return type(error)
    stats = result.stats
    return result_json.to_json(result), stats.samples_touched, stats.series_selected


def test_both_sides_of_an_operator_are_evaluated_at_the_same_time():
    # Neither side's select returns before the other's began.
    recording = Recording(storage(), parties=2)

    engine(2, recording).range("sum(rate(x_total[5m])) / sum(rate(y_total[5m]))", 0, END, 60_000)

    assert len(recording.threads) == 2


@pytest.mark.parametrize(
    "query",
    [
        TWO,
        MANY,
        SHARING,
        "sum by (i) (rate(x_total[5m]))",
        "avg(z offset 3m)",
        "topk(scalar(count(x_total)), y_total)",
        "(x_total or y_total or z)",
    ],
)
def test_values_notes_and_figures_are_those_of_one_thread(query):
    expected = answer(1, query)

    assert all(answer(cores, query) == expected for cores in (2, 3, 8) for _ in range(5))


def test_annotations_keep_the_order_of_an_evaluation_in_order():
    query = "quantile(2, x_total) + quantile(3, y_total) + quantile(4, z)"

    results = [engine(4, storage()).range(query, 0, END, 60_000) for _ in range(20)]

    assert all(result.warnings == results[0].warnings for result in results)
    assert ["got 2" in results[0].warnings[0], "got 4" in results[0].warnings[2]] == [True, True]


def test_the_first_error_in_order_is_raised():
    query = "sum(x_total) / on () (x_total + on () y_total) / sum(label_replace(z, '', '', '', ''))"

    with pytest.raises(errors.QueryError, match="many-to-many matching not allowed"):
        engine(4, storage()).range(query, 0, END, 60_000)


@pytest.mark.parametrize("most", range(4_000, 40_000, 1_500))
def test_a_limit_is_met_by_the_same_queries_whatever_the_threads(most):
    assert answer(2, MANY, max_samples=most) == answer(1, MANY, max_samples=most)


def test_limits_are_met_somewhere_between():
    kinds = {answer(1, MANY, max_samples=most) is errors.LimitError for most in (4_000, 40_000)}

    assert kinds == {True, False}


def test_cancelling_ends_all_branches():
    cancelled = threading.Event()

    class Cancelling(Recording):
        def select(self, *args):
            cancelled.set()
            return super().select(*args)

    with pytest.raises(errors.QueryCanceledError):
        engine(2, Cancelling(storage(), parties=2)).range(TWO, 0, END, 60_000, cancelled=cancelled)


def test_nothing_is_lent_while_as_many_queries_run_as_there_are_cores():
    workers = Workers(2, worthwhile=0)
    recording = Recording(storage())

    with workers.busy():
        Engine(recording, Options(workers=workers)).range(TWO, 0, END, 60_000)

    assert recording.threads == {threading.get_ident()}


def test_cheap_parts_stay_on_the_callers_thread():
    recording = Recording(storage())

    Engine(recording, Options(workers=Workers(2))).range(TWO, 0, END, 600_000)

    assert recording.threads == {threading.get_ident()}


def test_branches_in_branches_end_however_few_threads_there_are():
    deep = "sum(x_total)"
    for _ in range(30):
        deep = f"(sum(rate(x_total[5m])) + ({deep} * max(y_total)))"

    assert answer(2, deep) == answer(1, deep)


@pytest.mark.parametrize("chain", ["x_total" + " or x_total" * 3000, " + ".join(["max(z)"] * 3000)])
def test_long_chains_of_the_same_are_weighed_in_no_time(chain):
    began = time.process_time()

    engine(2, storage()).instant(chain, 0)

    assert time.process_time() - began < 10


def test_engine_agrees_with_the_oracle_on_many_threads():
    options = Options(workers=Workers(4, worthwhile=0))
    used = Counter(dict.fromkeys(ALL, 0))

    assert next(differences("threads", 300, used, options), None) is None


def test_many_queries_share_the_workers():
    shared = Engine(storage(), Options(workers=Workers(3, worthwhile=0)))
    expected = result_json.to_json(shared.range(MANY, 0, END, 60_000))
    wrong = []

    def ask():
        answers = [result_json.to_json(shared.range(MANY, 0, END, 60_000)) for _ in range(10)]
        wrong.extend(answer for answer in answers if answer != expected)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_a_part_counts_as_if_it_had_been_evaluated_in_order():
    whole = Budget(Limits(max_samples=100))
    part = whole.branch()
    part.hold(60)
    part.held = 30
    whole.hold(40)

    whole.join(part)

    assert (whole.held, whole.peak) == (70, 100)
    with pytest.raises(errors.LimitError, match="query.max_samples = 100"):
        whole.join(part)


def test_values_held_at_once_count_together():
    query = "x_total + on (i) y_total + on (i) z"
    samples, values = 20 * 200, 20 * 51  # of a selector; two are never read at once
    needed = samples + 2 * values

    with pytest.raises(errors.LimitError, match="max_samples"):
        engine(1, storage(), max_samples=needed - 1).range(query, 0, END, 60_000)
    result = engine(1, storage(), max_samples=needed).range(query, 0, END, 60_000)

    assert len(result.order) == 20


def test_jobs_give_their_results_in_order_on_several_threads():
    workers = Workers(3)
    together = threading.Barrier(3, timeout=30)

    def job(i):
        together.wait()
        return i, threading.get_ident()

    with workers.busy():
        found = workers.side_by_side([partial(job, i) for i in range(3)])

    assert [i for i, _ in found] == [0, 1, 2]
    assert len({thread for _, thread in found}) == 3
    assert workers.idle == 3


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_jobs_raise_what_the_first_of_them_raised(cores):
    def job(i):
        if i in (2, 5):
            raise ValueError(i)
        return i

    with pytest.raises(ValueError, match="2"):
        Workers(cores).side_by_side([partial(job, i) for i in range(8)])
