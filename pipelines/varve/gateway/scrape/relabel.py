"""Relabelling: rules that change, keep or drop a set of labels.

Source: Prometheus, "Configuration", relabel_config; model/relabel/relabel.go. Expressions are
RE2's, anchored at both ends, as Go's regexp has them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import re2
from pydantic import Field, PrivateAttr, model_validator

from varve.notify.config.fields import Fields, Integer, Text, Texts

_ACTIONS = frozenset(
    {
        *("replace", "keep", "drop", "keepequal", "dropequal", "hashmod"),
        *("labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"),
    }
)
_WITH_TARGET = frozenset({"replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"})
_ANYTHING = "(.*)"
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LEGACY_TARGET = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+", re.ASCII)
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
_MOST_MODULUS = (1 << 64) - 1


class RelabelConfig(Fields):
    """A rule, by the names that its fields have in the file."""

    source_labels: Texts = ()
    separator: Text = ";"
    regex: Text = _ANYTHING
    modulus: Integer = Field(0, ge=0, le=_MOST_MODULUS)
    target_label: Text = ""
    replacement: Text = "$1"
    action: Text = "replace"

    _expression: Any = PrivateAttr(default=None)
    _is_legacy: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _is_a_rule(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("a relabel rule is empty")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        object.__setattr__(self, "action", self.action.lower() or "replace")
        action = self.action
        if action not in _ACTIONS:
            raise ValueError(f"unknown action {action!r}; {', '.join(sorted(_ACTIONS))} are known")
        if action in _WITH_TARGET and not self.target_label:
            raise ValueError(f"the action {action} wants a target_label")
        if action == "hashmod" and not self.modulus:
            raise ValueError("the action hashmod wants a modulus over 0")
        if action in ("labeldrop", "labelkeep"):
            self._require_defaults(
                "source_labels", "target_label", "modulus", "separator", "replacement"
            )
        elif action in ("keepequal", "dropequal"):
            self._require_defaults("regex", "modulus", "separator", "replacement")
        elif action in ("lowercase", "uppercase"):
            self._require_defaults("replacement")
        elif action == "labelmap" and not self.replacement:
            raise ValueError("the action labelmap wants a replacement")
        self._expression = expression(self.regex)
        return self

    def _require_defaults(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"the action {self.action} does not go with {name}")

    def require_legacy_names(self) -> None:
        """Goes by the names of old from now on. Raises ValueError for a target that is none."""
        if self.action in _WITH_TARGET and not _LEGACY_TARGET.fullmatch(self.target_label):
            raise ValueError(f"{self.target_label!r} is no label name")
        self._is_legacy = True

    def apply(self, labels: dict[str, str]) -> bool:
        """Changes labels; an empty one is one that is not there. False if they are dropped."""
        action = self.action
        value = self.separator.join([labels.get(name, "") for name in self.source_labels])
        if action == "replace":
            self._replace(labels, value)
        elif action == "keep":
            return self._expression.fullmatch(value) is not None
        elif action == "drop":
            return self._expression.fullmatch(value) is None
        elif action == "keepequal":
            return value == labels.get(self.target_label, "")
        elif action == "dropequal":
            return value != labels.get(self.target_label, "")
        elif action == "hashmod":
            digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
            labels[self.target_label] = str(int.from_bytes(digest[8:]) % self.modulus)
        elif action == "lowercase":
            _put(labels, self.target_label, "".join(map(_lower, value)))
        elif action == "uppercase":
            _put(labels, self.target_label, "".join(map(_upper, value)))
        else:
            self._change_names(labels)
        return True

    def _replace(self, labels: dict[str, str], value: str) -> None:
        found = self._expression.fullmatch(value)
        if found is None:
            return
        target = expand(self.target_label, found)
        if target and (not self._is_legacy or _LEGACY_LABEL.fullmatch(target)):
            _put(labels, target, expand(self.replacement, found))

    def _change_names(self, labels: dict[str, str]) -> None:
        for name in sorted(labels):
            found = self._expression.fullmatch(name)
            if self.action == "labelmap":
                if found is not None:
                    _put(labels, expand(self.replacement, found), labels[name])
            elif (found is None) == (self.action == "labelkeep"):
                del labels[name]


def relabel(rules: Sequence[RelabelConfig], labels: Mapping[str, str]) -> dict[str, str] | None:
    """Labels after all rules, without those that are empty; None if a rule drops them."""
    found = dict(labels)
    for rule in rules:
        if not rule.apply(found):
            return None
    return {name: value for name, value in found.items() if value}


@lru_cache(10_000)
def expression(text: str) -> Any:
    """A regular expression whose dot is any character. Raises ValueError if it is none."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(text, options)
    except re2.error as err:
        said = err.args[0].decode() if isinstance(err.args[0], bytes) else str(err)
        raise ValueError(f"the regex {text[:100]!r} is no RE2 expression: {said}") from None


def expand(template: str, found: Any) -> str:
    """A template of Go's: $1, ${name} and $name stand for groups, $$ for a dollar sign."""
    if "$" not in template:
        return template

    def group(variable: re.Match[str]) -> str:
        if variable[1]:
            return "$"
        name = variable[2] or variable[3]
        try:
            return found.group(int(name) if name.isdecimal() else name) or ""
        except (IndexError, KeyError):
            return ""

    return _VARIABLE.sub(group, template)


def _put(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _lower(character: str) -> str:
    """One character for one, as Go maps them."""
    return character.lower()[:1]


def _upper(character: str) -> str:
    found = character.upper()
    return found if len(found) == 1 else character
