import pytest

from varve.local.bounded_run import BoundedRun
from varve.local.freshness import Freshness, FreshnessProbe
from varve.model.clock import ManualClock
from varve.settings import Settings


def test_a_sample_counts_once_when_it_is_first_seen():
    freshness = Freshness()
    freshness.observe(10_000, [5_000])  # where to begin
    freshness.observe(11_000, [5_000])
    freshness.observe(12_000, [5_000, 10_000])
    freshness.observe(13_000, [10_000])
    freshness.observe(20_000, [10_000, 15_000, 19_000])

    assert freshness.ages_ms == [2_000, 5_000, 1_000]


def test_an_empty_answer_says_nothing():
    freshness = Freshness()
    freshness.observe(1_000, [])

    assert (freshness.newest_ms, freshness.quantile_s(0.5)) == (None, None)


def test_quantiles_are_ages_that_were_measured():
    freshness = Freshness(ages_ms=[n * 100 for n in range(1, 101)])

    assert freshness.quantile_s(0.5) == 5.0
    assert freshness.quantile_s(0.99) == 9.9
    assert freshness.quantile_s(1.0) == 10.0
    assert Freshness(ages_ms=[700]).quantile_s(0.99) == 0.7


def test_answers_and_failures_are_counted():
    clock, calls = ManualClock(10_000), []

    def ask():
        calls.append(1)
        if len(calls) == 2:
            raise OSError("refused")
        clock.advance(1_000)
        return [len(calls) * 1_000]

    probe = FreshnessProbe(ask, clock=clock, interval_s=0.001)
    probe.start()
    while len(calls) < 4:
        pass
    probe.stop()

    assert probe.failures == 1
    assert probe.answers == len(calls) - 1
    assert probe.freshness.ages_ms[0] == 12_000 - 3_000


@pytest.mark.parametrize(
    ("for_s", "warm_up_s", "measured"), [(1, 0.5, False), (15, 7.5, False), (120, 30, True)]
)
def test_a_short_run_is_warm_after_half_of_it(tmp_path, for_s, warm_up_s, measured):
    run = BoundedRun(Settings(home=tmp_path), for_s, None, "http://x/", print)

    assert run._warm_up_s == warm_up_s
    assert run._measured() == measured


def test_stopping_one_that_never_started_does_nothing():
    FreshnessProbe(list).stop()
