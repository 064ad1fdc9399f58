"""Inhibition against a plain search over all pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from varve.notify.alerts import label_key
from varve.notify.config.routing import InhibitRuleConfig
from varve.notify.inhibition import Inhibitor
from varve.notify.matchers import all_match
from varve.notify.records import Alert

RULES = [
    InhibitRuleConfig.model_validate(rule)
    for rule in (
        {
            "source_matchers": ["severity=~page|info"],
            "target_matchers": ["severity=info"],
            "equal": ["zone"],
        },
        {"source_matchers": ["zone=x"], "target_matchers": ['zone!=""']},
    )
]
label_sets = st.fixed_dictionaries(
    {"instance": st.sampled_from("abc")},
    optional={
        "severity": st.sampled_from(["page", "info", "warning"]),
        "zone": st.sampled_from(["x", "y"]),
    },
)
# Labels, when it ends, and when the inhibitor is asked.
steps = st.lists(st.tuples(label_sets, st.integers(0, 10), st.integers(0, 10)), max_size=12)


@given(steps)
def test_an_alert_is_inhibited_if_any_firing_alert_is_a_source_for_it(steps):
    inhibitor, alerts, now_ms = Inhibitor(RULES), {}, 0
    for labels, ends_ms, passes_ms in steps:
        key = label_key(labels)
        number = alerts[key].id if key in alerts else len(alerts)
        alert = Alert(number, key, {}, 0, ends_ms, 0, False, "", number + 1)
        alerts[key] = alert
        inhibitor.observe(alert)
        now_ms += passes_ms
        firing = [dict(a.labels) for a in alerts.values() if now_ms < a.ends_ms]
        for other in alerts:
            target = dict(other)
            wanted = any(_inhibits(rule, source, target) for rule in RULES for source in firing)
            assert bool(inhibitor.inhibited_by(target, now_ms)) is wanted


def test_an_alert_that_is_forgotten_inhibits_nothing():
    inhibitor = Inhibitor(RULES)
    alert = Alert(1, (("severity", "page"),), {}, 0, 10, 0, False, "", 5)
    inhibitor.observe(alert)
    assert inhibitor.inhibited_by({"severity": "info"}, 0) == [5]

    inhibitor.forget(alert)

    assert inhibitor.inhibited_by({"severity": "info"}, 0) == []


def _inhibits(rule: InhibitRuleConfig, source: dict, target: dict) -> bool:
    if not (all_match(rule.sources, source) and all_match(rule.targets, target)):
        return False
    both = all_match(rule.targets, source) and all_match(rule.sources, target)
    return not both and all(source.get(n, "") == target.get(n, "") for n in rule.equal)
