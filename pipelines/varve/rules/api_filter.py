"""Which rules GET /api/v1/rules is asked for: filters and pages over what api_json gives.

Source: Prometheus, web/api/v1/api.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varve.model.errors import BadRequest
from varve.promql.errors import BadQueryError
from varve.promql.labels.postings import value_test
from varve.promql.syntax.ast import Matcher, VectorSelector
from varve.promql.syntax.parser import parse

Json = dict[str, Any]

_TYPES = {"": "", "alert": "alerting", "record": "recording"}
_BOOLEANS = {"": False, "0": False, "f": False, "false": False, "1": True, "t": True, "true": True}


@dataclass(frozen=True, slots=True)
class RuleFilter:
    """kind: alerting, recording, or empty for both. limit: groups of a page, 0 for all."""

    kind: str = ""
    names: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    matchers: tuple[tuple[Matcher, ...], ...] = ()
    without_alerts: bool = False
    limit: int = 0
    after: str = ""
    _any: bool = field(default=False)

    @classmethod
    def of(cls, given: Iterable[tuple[str, str]]) -> RuleFilter:
        """The filter that parameters of a request ask for. Raises BadRequest."""
        found: dict[str, list[str]] = {}
        for name, value in given:
            found.setdefault(name, []).append(value)

        def one(name: str) -> str:
            return found.get(name, [""])[0]

        kind = one("type").lower()
        if kind not in _TYPES:
            raise BadRequest(f'invalid parameter "type": not supported value {one("type")!r}')
        without = one("exclude_alerts").lower()
        if without not in _BOOLEANS:
            raise BadRequest(f'invalid parameter "exclude_alerts": not supported value {without!r}')
        limit, after = one("group_limit"), one("group_next_token")
        if after and not limit:
            raise BadRequest('invalid parameter "group_limit": group_limit needs to be set')
        if limit and (not limit.isdecimal() or int(limit) == 0):
            raise BadRequest('invalid parameter "group_limit": group_limit needs to be > 0')
        names = frozenset(found.get("rule_name[]", []))
        matchers = tuple(_matchers(text) for text in found.get("match[]", []))
        return cls(
            _TYPES[kind],
            names,
            frozenset(found.get("rule_group[]", [])),
            frozenset(found.get("file[]", [])),
            matchers,
            _BOOLEANS[without],
            int(limit or 0),
            after,
            bool(names or matchers or kind),
        )

    def apply(self, groups: Iterable[Json]) -> Json:
        """What the answer has in data. Raises BadRequest if the page to go on from is gone."""
        chosen = [
            group
            for group in groups
            if (not self.groups or group["name"] in self.groups)
            and (not self.files or group["file"] in self.files)
        ]
        if self.limit:
            chosen.sort(key=lambda group: (group["file"], group["name"]))
        if self.after:
            places = [p for p, group in enumerate(chosen) if _token(group) == self.after]
            if not places:
                raise BadRequest(
                    f"invalid group_next_token {self.after!r}. were rule groups changed?"
                )
            chosen = chosen[places[0] :]
        found: list[Json] = []
        for group in chosen:
            if self.limit and len(found) == self.limit:
                return {"groups": found, "groupNextToken": _token(group)}
            rules = [self._shown(rule) for rule in group["rules"] if self._has(rule)]
            if rules or not self._any:
                found.append(group | {"rules": rules})
        return {"groups": found}

    def _has(self, rule: Json) -> bool:
        return (
            (not self.kind or rule["type"] == self.kind)
            and (not self.names or rule["name"] in self.names)
            and (
                not self.matchers
                or any(_agree(matchers, rule.get("labels", {})) for matchers in self.matchers)
            )
        )

    def _shown(self, rule: Json) -> Json:
        return rule | {"alerts": []} if self.without_alerts and "alerts" in rule else rule


def _matchers(text: str) -> tuple[Matcher, ...]:
    try:
        tree = parse(text)
    except BadQueryError as err:
        raise BadRequest(f'invalid parameter "match[]": {err}') from err
    if not isinstance(tree, VectorSelector):
        raise BadRequest(f'invalid parameter "match[]": {text!r} is no selector of series')
    return tuple(tree.matchers)


def _agree(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    return all(value_test(matcher)(labels.get(matcher.name, "")) for matcher in matchers)


def _token(group: Json) -> str:
    """What a page ends with: it names the group that the next one begins with."""
    return hashlib.sha1(
        f"{group['file']};{group['name']}".encode(), usedforsecurity=False
    ).hexdigest()
