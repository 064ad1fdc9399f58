from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rules.making import MINUTE, asked, evaluated, group, key, running, series
from varve.rules.dependencies import Reading, levels
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.rule_set import RuleSet

NAMES = ["a", "b", "c", "d", "Alert"]
EXPRESSIONS = [
    "m",
    "a + 1",
    "b * 2",
    "c or d",
    "sum({__name__=~'a|c'})",
    "ALERTS{alertname='Alert'} + 1",
    "count(ALERTS_FOR_STATE)",
    "d offset 1m",
    "m > 2",
]
RULES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(EXPRESSIONS)), min_size=1, max_size=7
)


def everything(buffer, at):
    return {k: str(v) for k, v in asked(buffer, "{__name__=~'.+'}", at).items()}


@given(RULES)
def test_rules_side_by_side_write_what_they_write_one_after_the_other(rules):
    parsed = group(rules)
    outcomes = []
    with ThreadPoolExecutor(3) as pool:
        for jobs in (map, pool.map):
            buffer, run = series(m=[1, 2, 3, 4]), GroupRun(parsed)
            if jobs is map:
                run._levels = [[place] for place in range(len(rules))]
            outs = evaluated(run, buffer, range(4), Evaluator(jobs=jobs))
            outcomes.append(
                (
                    [everything(buffer, minute * MINUTE) for minute in range(4)],
                    [(rule.health, rule.error) for rule in run.rules],
                    [str(out.samples) for out in outs],
                )
            )

    assert outcomes[0] == outcomes[1]


def test_steps_hold_what_may_be_evaluated_side_by_side():
    parsed = group([("a", "m"), ("b", "a"), ("c", "m"), ("d", "b + c"), ("Alert", "{x='1'}")])

    assert levels(parsed.rules) == [[0, 2], [1], [3], [4]]


def test_a_rule_reads_what_its_matchers_may_select():
    a, b, alert = group([("a", "m", "labels: {x: '1'}"), ("b", "m"), ("Alert", "m")]).rules
    reader = group([("r1", "a{x='1'}"), ("r2", "a{x='2'}"), ("r3", "{x='1'}"), ("r4", "ALERTS"),
                    ("r5", "ALERTS{alertname='Other'}")]).rules  # fmt: skip

    readings = [Reading.of(rule) for rule in reader]
    assert [one.reads(a) for one in readings] == [True, False, True, False, False]
    assert [one.reads(b) for one in readings] == [False, False, True, False, False]
    assert [one.reads(alert) for one in readings] == [False, False, True, True, False]


def test_a_rule_that_fails_leaves_its_series_and_the_others_alone():
    run = running([("r", "m + on() group_left() n"), ("s", "m")])
    buffer = series(m=[1, 1, 1], n=[1, 1, 1])
    evaluated(run, buffer, [0])
    buffer.write(
        sample
        for sample in evaluated(running([("n", "m", "labels: {x: '1'}")]), buffer, [1])[0].samples
    )

    evaluated(run, buffer, [1])

    assert [(rule.health, bool(rule.error)) for rule in run.rules] == [("err", True), ("ok", False)]
    assert asked(buffer, "timestamp(r)", MINUTE) == {(): 0.0}


def test_a_changed_group_goes_on_with_the_alerts_and_ends_what_is_gone():
    old = group([("A", "m > 0", "for: 5m"), ("r", "m"), ("s", "m")])
    new = group([("s", "m"), ("A", "m > 0", "for: 2m")], interval="30s")
    rules, buffer = RuleSet([old], restores=False), series(m=[1] * 10)
    [run] = rules
    evaluated(run, buffer, range(3))

    rules.update([new])

    [run] = rules
    evaluated(run, buffer, [3])
    assert asked(buffer, "ALERTS", 3 * MINUTE) == {
        key("ALERTS", alertname="A", alertstate="firing"): 1.0
    }
    assert asked(buffer, "r", 3 * MINUTE) == {}
    assert asked(buffer, "s", 3 * MINUTE) == {key("s"): 1.0}


def test_a_group_that_is_gone_has_its_series_ended_once():
    rules, buffer = (
        RuleSet([group([("r", "m"), ("A", "m > 0")])], restores=False),
        series(m=[1] * 5),
    )
    [run] = rules
    evaluated(run, buffer, [0])

    rules.update([])

    ends = rules.ends(MINUTE)
    buffer.write(ends)
    assert {sample.labels for sample in ends} == {
        key("r"),
        key("ALERTS", alertname="A", alertstate="firing"),
        key("ALERTS_FOR_STATE", alertname="A"),
    }
    assert asked(buffer, "r or ALERTS", MINUTE) == {}
    assert rules.ends(2 * MINUTE) == ()


def test_an_equal_group_goes_on_as_it_is():
    rules = RuleSet([group([("r", "m")])], restores=False)
    before = list(rules)

    rules.update([group([("r", "m")])])

    assert list(rules) == before


@given(st.integers(11, 60), st.integers(0, 70), st.integers(0, 90))
def test_downtime_counts_neither_as_pending_nor_as_an_end(hold, pending, away):
    """hold, pending and away in minutes; grace 10 m, tolerance 60 m."""
    rule, minutes = [("A", "m > 0", f"for: {hold}m")], 260
    buffer = series(m=[1] * minutes)
    evaluated(running(rule), buffer, range(pending + 1))
    back = pending + away + 1
    run = GroupRun(group(rule), restores=True)

    fired = next(
        minute
        for minute in range(back, minutes)
        if (evaluated(run, buffer, [minute]), run.rules[0].alerts)[1][
            (("alertname", "A"),)
        ].state.value
        == 2
    )

    if away + 1 >= 60:
        assert fired == back + hold
    elif pending >= hold:
        assert fired == back
    else:
        assert fired == back + max(hold - pending, 10)
