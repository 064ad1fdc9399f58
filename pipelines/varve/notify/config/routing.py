"""Routes, inhibition rules and time intervals as the file has them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from varve.notify.config.fields import DurationMs, Fields, Flag, Template, Text, Texts
from varve.notify.matchers import (
    CLASSIC_NAME,
    Matcher,
    MatcherError,
    Mode,
    in_order,
    parse_matchers,
)
from varve.notify.time_intervals import TimeInterval, parse_time_interval

ALL = "..."
"""In group_by: every label."""


def _matchers(value: Any, info: Any) -> Any:
    mode = (info.context or {}).get("mode", Mode.FALLBACK)
    texts = value if isinstance(value, list | tuple) else [value]
    found: list[Matcher] = []
    for text in texts:
        if isinstance(text, Matcher):
            found.append(text)
            continue
        if not isinstance(text, str):
            raise ValueError('a matcher is a text such as team="db"')  # noqa: TRY004 - pydantic's
        try:
            found += parse_matchers(text, mode)
        except MatcherError as err:
            raise ValueError(str(err)) from None
    return tuple(found)


def _by_name(operator: str) -> Any:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("should be a mapping of labels")  # noqa: TRY004 - pydantic's
        found = []
        for name, text in value.items():
            if not CLASSIC_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no label name here; use matchers for others")
            if text is None and operator == "=~":
                raise ValueError(f"the label {name!r} has no regular expression")
            if isinstance(text, dict | list):
                raise ValueError(f"the value of {name!r} should be a text")  # noqa: TRY004
            try:
                found.append(Matcher(name, operator, str(text or "")))
            except MatcherError as err:
                raise ValueError(str(err)) from None
        return tuple(found)

    return read


def _label_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name:
            raise ValueError("a label name is empty")
    return names


Matchers = Annotated[tuple[Matcher, ...], PlainValidator(_matchers)]
Equals = Annotated[tuple[Matcher, ...], PlainValidator(_by_name("="))]
Regexes = Annotated[tuple[Matcher, ...], PlainValidator(_by_name("=~"))]
LabelNames = Annotated[Texts, AfterValidator(_label_names)]


class RouteConfig(Fields):
    """A node of the routing tree; what is None is inherited."""

    receiver: Text = ""
    group_by: LabelNames | None = None
    match: Equals = ()
    match_re: Regexes = ()
    matchers: Matchers = ()
    mute_time_intervals: Texts = ()
    active_time_intervals: Texts = ()
    continue_: Flag = Field(False, alias="continue")
    routes: tuple[RouteConfig, ...] = ()
    group_wait: DurationMs | None = None
    group_interval: DurationMs | None = None
    repeat_interval: DurationMs | None = None
    labels: dict[str, Template] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        names = self.group_by or ()
        if ALL in names and len(names) > 1:
            raise ValueError("cannot have wildcard group_by ('...') and other labels at once")
        if len(set(names)) < len(names):
            raise ValueError("a label is in group_by twice")
        if self.group_interval == 0:
            raise ValueError("group_interval cannot be zero")
        if self.repeat_interval == 0:
            raise ValueError("repeat_interval cannot be zero")
        return self

    @property
    def conditions(self) -> tuple[Matcher, ...]:
        return in_order((*self.match, *self.match_re, *self.matchers))


class InhibitRuleConfig(Fields):
    name: Text = ""
    source_match: Equals = ()
    source_match_re: Regexes = ()
    source_matchers: Matchers = ()
    target_match: Equals = ()
    target_match_re: Regexes = ()
    target_matchers: Matchers = ()
    equal: LabelNames = ()

    @property
    def sources(self) -> tuple[Matcher, ...]:
        return in_order((*self.source_match, *self.source_match_re, *self.source_matchers))

    @property
    def targets(self) -> tuple[Matcher, ...]:
        return in_order((*self.target_match, *self.target_match_re, *self.target_matchers))


class NamedIntervals(Fields):
    """Times that are within any of some intervals."""

    name: Text = ""
    time_intervals: Annotated[
        tuple[Annotated[TimeInterval, PlainValidator(parse_time_interval)], ...],
        BeforeValidator(lambda value: tuple(value or ())),
    ] = ()

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not self.name:
            raise ValueError("a time interval needs a name")
        return self
