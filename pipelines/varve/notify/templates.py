"""Texts of messages: the templates of a configuration, and what they give for one message."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from varve.notify.config.document import ConfigError
from varve.notify.message import Message, ToldAlert
from varve.notify.oncall.signed_links import MessageLinks, SignedLinks
from varve.templates.errors import FunctionError, TemplateError
from varve.templates.notification_templates import (
    FUNCTION_NAMES,
    Alert,
    NotificationData,
    notification_functions,
)
from varve.templates.template_set import TemplateSet
from varve.templates.values import Function

DEFAULTS = Path(__file__).with_name("defaults.tmpl")
"""Templates that receivers name where a configuration says nothing else."""

_TEXT = "message"
# Texts of a configuration are few; those within details of an incident may be many.
_MOST_COMPILED = 4096


class Templates:
    """The templates of files, and texts that call them. Parses each text once."""

    def __init__(self, files: TemplateSet) -> None:
        self._files = files
        self._compiled: dict[str, TemplateSet] = {}

    @classmethod
    def load(cls, patterns: Sequence[str]) -> Templates:
        """Our own templates and those of files; a pattern may match none. Raises ConfigError."""
        found = TemplateSet().with_text(DEFAULTS.read_text(), DEFAULTS.name, FUNCTION_NAMES)
        for pattern in patterns:
            for path in sorted(glob.glob(pattern)):  # noqa: PTH207 - patterns are absolute
                try:
                    found = found.with_text(Path(path).read_text(), Path(path).name, FUNCTION_NAMES)
                except TemplateError as err:
                    raise ConfigError(f"{path}:{err.line}:{err.column}: {err.message}") from None
                except (OSError, UnicodeDecodeError) as err:
                    raise ConfigError(f"{path}: {err}") from None
        return cls(found)

    def compiled(self, text: str) -> TemplateSet:
        """Raises TemplateError if the text does not parse."""
        known = self._compiled.get(text)
        if known is None:
            known = self._files.with_text(text, _TEXT, FUNCTION_NAMES)
            if len(self._compiled) < _MOST_COMPILED:
                self._compiled[text] = known
        return known


class Rendering:
    """Expands texts for one message; what nobody asks for is not computed."""

    def __init__(
        self,
        templates: Templates,
        message: Message,
        *,
        external_url: str,
        reason: str,
        now_ms: Callable[[], int],
        links: SignedLinks | None = None,
    ) -> None:
        self._templates = templates
        self._message = message
        self._external_url = external_url
        self._reason = reason
        self._now_ms = now_ms
        self._links = MessageLinks(links, external_url, message.receiver, message.at_ms)

    def acknowledge_url(self, told: ToldAlert | None = None) -> str:
        """The link that acknowledges an alert, or all of the message; "" if there is none."""
        if told is not None:
            return self._links.of_alert(told.alert.fingerprint) if told.firing else ""
        message = self._message
        return self._links.of_group(message.group_hash) if message.status == "firing" else ""

    def text(self, template: str) -> str:
        """Raises TemplateError."""
        if "{{" not in template:
            return template
        return self._expand(template, html=False)

    def html(self, template: str) -> str:
        """The same as a part of an HTML document: values are escaped for where they stand."""
        return self._expand(template, html=True)

    @cached_property
    def route_labels(self) -> dict[str, str]:
        """What the route says of the group. Raises TemplateError."""
        texts = self._message.route_labels
        if not texts:
            return {}
        data = self._data_with({})

        def expand(text: str) -> str:
            return self._templates.compiled(text).expand(_TEXT, data, functions)

        lazy = _RouteLabels(texts, expand)
        functions = notification_functions(self._now_ms, lazy)
        return dict(lazy)

    def _expand(self, template: str, *, html: bool) -> str:
        data, functions = self._data
        return self._templates.compiled(template).expand(_TEXT, data, functions, html=html)

    @cached_property
    def _data(self) -> tuple[NotificationData, Mapping[str, Function]]:
        labels = self.route_labels
        return self._data_with(labels), notification_functions(self._now_ms, labels)

    def _data_with(self, route_labels: Mapping[str, str]) -> NotificationData:
        message = self._message
        alerts = [
            Alert.of(
                dict(told.alert.labels),
                told.alert.annotations,
                starts_at_ms=told.alert.starts_ms,
                ended_at_ms=None if told.firing else told.alert.ends_ms,
                generator_url=told.alert.generator_url,
                acknowledge_url=self.acknowledge_url(told),
            )
            for told in message.alerts
        ]
        return NotificationData.of(
            message.receiver,
            alerts,
            group_labels=dict(message.group_labels),
            route_labels=route_labels,
            external_url=self._external_url,
            reason=self._reason,
            acknowledge_url=self.acknowledge_url(),
        )


class _RouteLabels(Mapping[str, str]):
    """Labels of a route, each expanded when it is asked for: they may use each other."""

    def __init__(self, texts: Mapping[str, str], expand: Callable[[str], str]) -> None:
        self._texts = texts
        self._expand = expand
        self._known: dict[str, str] = {}
        self._open: list[str] = []

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            if name in self._open:
                raise FunctionError(f"the route's label {name!r} uses itself")
            self._open.append(name)
            self._known[name] = self._expand(self._texts[name])
            self._open.pop()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
