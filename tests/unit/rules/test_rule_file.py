import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.rules.errors import RuleFileError
from varve.rules.rule_file import parse_rule_file


def problems(text):
    with pytest.raises(RuleFileError) as failed:
        parse_rule_file(text, "rules.yml")
    return [str(problem) for problem in failed.value.problems]


def test_everything_that_is_wrong_is_said_with_its_place():
    text = """\
groups:
- name: g
  evry: 1m
  interval: 5
  rules:
  - alert: A
    expr: sum(
    for: -1m
    labels: {__name__: x, ok: '{{ $vlaue }}'}
  - record: 'a{b}'
    expr: up
    for: 1m
  - {expr: up}
- name: g
  limit: many
"""
    said = problems(text)

    places = [one.split(": ")[0] for one in said]
    assert places == [
        *("3:3", "4:13", "7:11", "8:10", "9:14", "9:31", "10:13", "12:10", "13:5", "14:3", "15:10")
    ]
    assert said[0] == "3:3: field evry not found in a group"
    assert said[1] == '4:13: not a valid duration string: "5"'
    assert said[2].startswith(
        '7:11: group "g", rule 1, "A": could not parse expression: 1:5: parse'
    )
    assert said[5].endswith('template of label "ok": __alert_A:1:4: undefined variable "$vlaue"')
    assert said[-2] == '14:3: groupname: "g" is repeated in the same file'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: [", "no YAML"),
        ("groups: {a: b}", "a list is wanted here, not a mapping"),
        ("groups:\n- name: a\n  name: b", "3:3: 'name' is already there in line 2"),
        ("groups: [{name: g, rules: [{record: [], expr: up}]}]", "text is wanted here, not a list"),
        ("- a", "a mapping is wanted here, not a list"),
        ("groups: &a [*a]", "a mapping is wanted here, not a list"),
        ("\x00", "no YAML"),
    ],
)
def test_what_is_no_rule_file_is_refused(text, said):
    assert said in "\n".join(problems(text))


def test_a_plain_scalar_is_text_and_nothing_is_nothing():
    text = """\
groups:
- name: 0500
  limit: 0x10
  query_offset: 0s
  rules:
  - {alert: yes, expr: 1, labels: {a: 1_000, b: null, c: 'null', d: ~, e: 2026-01-01}}
"""
    [group] = parse_rule_file(text, "rules.yml")

    [rule] = group.rules
    assert (group.name, group.limit, group.interval_ms, group.query_offset_ms) == (
        "0500",
        16,
        None,
        0,
    )
    assert rule.name == "yes"
    assert rule.label_texts == {"a": "1_000", "b": "", "c": "null", "d": "", "e": "2026-01-01"}


def test_aliases_and_merges_are_followed():
    text = """\
groups:
- name: g
  labels: {team: x, tier: '1'}
  rules:
  - &base
    alert: A
    expr: up == 0
    labels: {team: y}
  - <<: *base
    alert: B
"""
    [group] = parse_rule_file(text, "rules.yml")

    assert [(rule.name, rule.expr) for rule in group.rules] == [("A", "up == 0"), ("B", "up == 0")]
    assert group.rules[1].label_texts == {"team": "y", "tier": "1"}


def test_what_merges_itself_or_grows_without_end_is_read_in_no_time():
    bomb = "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 60))

    said = problems(f"a0: &a0 {{x: y}}\n{bomb}\ngroups: [&g {{<<: *g, name: g}}, *a59]")

    assert any("field x not found in a group" in one for one in said)


WORDS = st.sampled_from(
    [
        *("groups:", "- name: g", "  rules:", "  - alert: A", "    expr: up", "    for: 1x", "{"),
        *("]", "&a", "*a", "<<: *a", "    labels: {a: '{{'}", "\t", "- ", "? ", "!!binary x"),
    ]
)


@given(st.lists(WORDS | st.text(max_size=5), max_size=12).map("\n".join))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(RuleFileError):
        parse_rule_file(text, "rules.yml")
