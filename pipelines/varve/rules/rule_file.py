"""The rules of a file, checked as promtool checks them.

Source: Prometheus, model/rulefmt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from varve.promql.errors import BadQueryError
from varve.promql.syntax.ast import Expr
from varve.promql.syntax.parser import parse
from varve.rules.errors import Problem, RuleFileError
from varve.rules.label_sets import METRIC_NAME
from varve.rules.yaml_tree import Fields, Tree, read
from varve.templates.errors import TemplateError
from varve.templates.rule_templates import parse_alert_text
from varve.templates.template_set import TemplateSet

_FILE: Final = frozenset(["groups"])
_GROUP: Final = frozenset(["name", "interval", "query_offset", "limit", "labels", "rules"])
_RULE: Final = frozenset(
    ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"]
)


@dataclass(frozen=True, slots=True)
class Template:
    """A label or annotation of an alerting rule. parsed: None if there is nothing to expand."""

    text: str
    parsed: TemplateSet | None = field(compare=False)


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """labels: the group's, too. Times are in ms."""

    name: str
    expr: str
    hold_ms: int
    keep_firing_ms: int
    labels: Mapping[str, Template]
    annotations: Mapping[str, Template]
    tree: Expr = field(compare=False, repr=False)

    @property
    def label_texts(self) -> dict[str, str]:
        return {name: template.text for name, template in self.labels.items()}


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """labels: the group's, too."""

    name: str
    expr: str
    labels: Mapping[str, str]
    tree: Expr = field(compare=False, repr=False)

    @property
    def label_texts(self) -> dict[str, str]:
        return dict(self.labels)


Rule = AlertingRule | RecordingRule


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after another.

    interval_ms, query_offset_ms: None where the file leaves them to the settings. limit: the most
    series or alerts of a rule, 0 for any number.
    """

    name: str
    file: str
    interval_ms: int | None
    query_offset_ms: int | None
    limit: int
    rules: tuple[Rule, ...]

    @property
    def key(self) -> str:
        """What tells groups of all files apart."""
        return f"{self.file};{self.name}"


def parse_rule_file(text: str, name: str, *, strict: bool = True) -> tuple[Group, ...]:
    """The groups of a file. Raises RuleFileError with all that is wrong with it.

    strict: whether a key that no one knows is a problem.
    """
    problems: list[Problem] = []
    tree = read(text, problems)
    if tree is None or tree.is_null:
        return ()
    top = tree.fields(_FILE, "the file", strict=strict)
    groups = [_group(item, name, strict=strict) for item in top.items("groups")]
    seen: set[str] = set()
    for item, group in zip(top.items("groups"), groups, strict=True):
        if group.name in seen:
            item.problem(f'groupname: "{group.name}" is repeated in the same file')
        seen.add(group.name)
    if problems:
        raise RuleFileError(problems)
    return tuple(groups)


def _group(tree: Tree, file: str, *, strict: bool) -> Group:
    fields = tree.fields(_GROUP, "a group", strict=strict)
    name = fields.text("name")
    if not name:
        fields.tree("name").problem("Groupname must not be empty")
    labels = fields.texts("labels")
    _check_labels(fields, "labels", "")
    rules = []
    for number, item in enumerate(fields.items("rules"), 1):
        rule = _rule(item, f'group "{name}", rule {number}', labels, strict=strict)
        if rule is not None:
            rules.append(rule)
    limit = fields.integer("limit")
    return Group(
        name,
        file,
        fields.duration_ms("interval") or None,
        fields.duration_ms("query_offset") if "query_offset" in fields else None,
        limit,
        tuple(rules),
    )


def _rule(tree: Tree, where: str, group_labels: Mapping[str, str], *, strict: bool) -> Rule | None:
    fields = tree.fields(_RULE, "a rule", strict=strict)
    record, alert = fields.text("record"), fields.text("alert")
    where = f'{where}, "{alert or record}": '
    expr = fields.text("expr")
    if record and alert:
        fields.tree("record").problem(where + "only one of 'record' and 'alert' must be set")
    if not record and not alert:
        tree.problem(where + "one of 'record' or 'alert' must be set")
    parsed = _expression(fields, expr, where)
    _check_labels(fields, "labels", where)
    for key, _ in fields.entries("annotations"):
        if not _is_name(key.text()):
            key.problem(f"{where}invalid annotation name: {key.text()}")
    labels = {**group_labels, **fields.texts("labels")}
    hold_ms, keep_ms = fields.duration_ms("for"), fields.duration_ms("keep_firing_for")
    if record:
        _check_recording(fields, record, where)
        return None if parsed is None else RecordingRule(record, expr, labels, parsed)
    templates = _templates(fields, "labels", labels, alert, where)
    annotations = _templates(fields, "annotations", fields.texts("annotations"), alert, where)
    if parsed is None:
        return None
    return AlertingRule(alert, expr, hold_ms, keep_ms, templates, annotations, parsed)


def _expression(fields: Fields, expr: str, where: str) -> Expr | None:
    if not expr:
        fields.at.problem(where + "field 'expr' must be set in rule")
        return None
    try:
        return parse(expr)
    except BadQueryError as error:
        fields.tree("expr").problem(f"{where}could not parse expression: {error}")
        return None


def _check_recording(fields: Fields, record: str, where: str) -> None:
    for name in ("annotations", "for", "keep_firing_for"):
        present = fields.entries(name) if name == "annotations" else fields.duration_ms(name)
        if present:
            fields.tree(name).problem(f"{where}invalid field '{name}' in recording rule")
    if not _is_valid(record):
        fields.tree("record").problem(f"{where}invalid recording rule name: {record}")
    if "{" in record or "}" in record:
        fields.tree("record").problem(
            f"{where}braces present in the recording rule name; should it be in expr?: {record}"
        )


def _check_labels(fields: Fields, name: str, where: str) -> None:
    for key, value in fields.entries(name):
        if not _is_name(key.text()) or key.text() == METRIC_NAME:
            key.problem(f"{where}invalid label name: {key.text()}")
        if not _is_valid(value.text()):
            value.problem(f"{where}invalid label value: {value.text()!r}")


def _is_name(text: str) -> bool:
    return bool(text) and _is_valid(text)


def _is_valid(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


def _templates(
    fields: Fields, name: str, texts: Mapping[str, str], alert: str, where: str
) -> dict[str, Template]:
    values = {key.text(): value for key, value in fields.entries(name)}
    templates = {}
    for key, text in texts.items():
        parsed = None
        if "{{" in text:
            try:
                parsed = parse_alert_text(text, f"__alert_{alert}")
            except TemplateError as error:
                tree = values.get(key, fields.at)
                tree.problem(f'{where}template of {name[:-1]} "{key}": {error}')
        templates[key] = Template(text, parsed)
    return templates
