"""Short ways to make rules, series and evaluations."""

import json

from varve.promql.engine import Engine
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.instant import Sample, elements_of
from varve.rules.label_sets import labels_of
from varve.rules.rule_file import parse_rule_file
from varve.rules.series_buffer import SeriesBuffer

MINUTE = 60_000


def group(rules, **settings):
    """A group of rules, each a line `name: expr`; a capital begins the name of an alert."""
    lines = ["groups:", "- name: g", *(f"  {name}: {value}" for name, value in settings.items())]
    lines.append("  rules:")
    for name, expr, *more in rules:
        kind = "alert" if name[0].isupper() else "record"
        lines += [
            f"  - {kind}: {name}",
            f"    expr: {json.dumps(expr)}",
            *(f"    {line}" for line in more),
        ]
    [parsed] = parse_rule_file("\n".join(lines), "rules.yml")
    return parsed


def series(**values):
    """A buffer of series without labels, with a value a minute; None for none."""
    buffer = SeriesBuffer()
    buffer.write(
        Sample((("__name__", name),), i * MINUTE, float(value))
        for name, row in values.items()
        for i, value in enumerate(row)
        if value is not None
    )
    return buffer


def asked(buffer, expr, at_ms):
    """{labels: value}"""
    result = Engine(buffer).instant(expr, at_ms)
    return {one.labels: one.value for one in elements_of(result)}


def evaluated(run, buffer, minutes, evaluator=None):
    """Evaluates a group at some minutes; what came out of each."""
    evaluator = evaluator or Evaluator()
    return [run.evaluate(buffer, evaluator, minute * MINUTE) for minute in minutes]


def running(rules, **settings):
    return GroupRun(group(rules, **settings))


def key(name, **labels):
    return labels_of({"__name__": name, **labels})
