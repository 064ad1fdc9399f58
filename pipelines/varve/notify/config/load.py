"""Reads an alertmanager.yml: fields, then what they say together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from varve.notify.config import document as documents
from varve.notify.config.basic_receivers import EmailConfig, Integration, WebhookConfig
from varve.notify.config.chat_receivers import (
    DiscordConfig,
    MattermostConfig,
    MsTeamsConfig,
    MsTeamsV2Config,
    RocketchatConfig,
    SlackConfig,
    TelegramConfig,
    WebexConfig,
    WechatConfig,
)
from varve.notify.config.document import ConfigError, Document
from varve.notify.config.fields import Fields, Text, Texts
from varve.notify.config.global_options import GlobalOptions, filled_in, slack_conflict
from varve.notify.config.http_client import Tracing
from varve.notify.config.paging_receivers import (
    IncidentioConfig,
    JiraConfig,
    OpsgenieConfig,
    PagerdutyConfig,
    PushoverConfig,
    SnsConfig,
    VictoropsConfig,
)
from varve.notify.config.routing import InhibitRuleConfig, NamedIntervals, RouteConfig
from varve.notify.matchers import CLASSIC_NAME, Mode
from varve.notify.time_intervals import TimeInterval


def _without_gaps(value: Any) -> Any:
    if isinstance(value, list):
        return tuple({} if item is None else item for item in value)
    return () if value is None else value


# An item that is null is one with every field left out.
_GAPS = BeforeValidator(_without_gaps)


class ReceiverConfig(Fields):
    name: Text = ""
    discord_configs: Annotated[tuple[DiscordConfig, ...], _GAPS] = ()
    email_configs: Annotated[tuple[EmailConfig, ...], _GAPS] = ()
    incidentio_configs: Annotated[tuple[IncidentioConfig, ...], _GAPS] = ()
    pagerduty_configs: Annotated[tuple[PagerdutyConfig, ...], _GAPS] = ()
    slack_configs: Annotated[tuple[SlackConfig, ...], _GAPS] = ()
    webhook_configs: Annotated[tuple[WebhookConfig, ...], _GAPS] = ()
    opsgenie_configs: Annotated[tuple[OpsgenieConfig, ...], _GAPS] = ()
    wechat_configs: Annotated[tuple[WechatConfig, ...], _GAPS] = ()
    pushover_configs: Annotated[tuple[PushoverConfig, ...], _GAPS] = ()
    victorops_configs: Annotated[tuple[VictoropsConfig, ...], _GAPS] = ()
    sns_configs: Annotated[tuple[SnsConfig, ...], _GAPS] = ()
    telegram_configs: Annotated[tuple[TelegramConfig, ...], _GAPS] = ()
    webex_configs: Annotated[tuple[WebexConfig, ...], _GAPS] = ()
    msteams_configs: Annotated[tuple[MsTeamsConfig, ...], _GAPS] = ()
    msteamsv2_configs: Annotated[tuple[MsTeamsV2Config, ...], _GAPS] = ()
    jira_configs: Annotated[tuple[JiraConfig, ...], _GAPS] = ()
    rocketchat_configs: Annotated[tuple[RocketchatConfig, ...], _GAPS] = ()
    mattermost_configs: Annotated[tuple[MattermostConfig, ...], _GAPS] = ()


class _File(Fields):
    global_: GlobalOptions | None = Field(None, alias="global")
    route: RouteConfig | None = None
    receivers: tuple[ReceiverConfig, ...] = ()
    inhibit_rules: tuple[InhibitRuleConfig, ...] = ()
    mute_time_intervals: tuple[NamedIntervals, ...] = ()
    time_intervals: tuple[NamedIntervals, ...] = ()
    templates: Texts = ()
    tracing: Tracing | None = None


@dataclass(frozen=True)
class NamedIntegration:
    """One integration of a receiver: `webhook`, the second."""

    receiver: str
    kind: str
    index: int
    config: Integration

    @property
    def key(self) -> str:
        """Names it in the notification log."""
        return f"{self.receiver}/{self.kind}/{self.index}"


@dataclass(frozen=True)
class Configuration:
    """A configuration that is consistent."""

    route: RouteConfig
    receivers: dict[str, tuple[NamedIntegration, ...]]
    inhibit_rules: tuple[InhibitRuleConfig, ...]
    intervals: dict[str, tuple[TimeInterval, ...]]
    resolve_timeout_ms: int
    templates: tuple[str, ...]
    """Patterns of files, absolute."""
    original: str
    """The file as it is written, with `<secret>` for secrets and without comments."""
    warnings: tuple[str, ...] = ()


def load_config(path: Path, mode: Mode = Mode.FALLBACK) -> Configuration:
    """Reads a file. Raises ConfigError with a line for each thing that is wrong."""
    try:
        text = path.read_text()
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: no UTF-8 at byte {err.start}") from err
    return read_config(text, name=str(path), folder=path.parent, mode=mode)


def read_config(
    text: str,
    *,
    name: str = "alertmanager.yml",
    folder: Path | None = None,
    mode: Mode = Mode.FALLBACK,
) -> Configuration:
    """Reads the text of a file. Paths in it count from `folder`. Raises ConfigError."""
    document = documents.read_document(text, name)
    value = document.value
    if value is None or (isinstance(value, dict) and not value):
        raise ConfigError(f"{name}: the file is empty; a route and receivers are wanted")
    if not isinstance(value, dict):
        raise document.error((), "a configuration is a mapping")
    try:
        file = _File.model_validate(value, context={"mode": mode})
    except ValidationError as err:
        raise document.errors_of(err) from None
    return _Checker(document, file, (folder or Path.cwd()).absolute(), mode).checked()


class _Checker:
    """What fields say together: names that are used are there, and gaps can be filled."""

    def __init__(self, document: Document, file: _File, folder: Path, mode: Mode) -> None:
        self._document = document
        self._file = file
        self._folder = folder
        self._mode = mode
        self._wrong: list[str] = []

    def checked(self) -> Configuration:
        file = self._file
        options = file.global_ or GlobalOptions()
        if conflict := slack_conflict(options):
            self._note(("global",), conflict)
        receivers = self._receivers(options)
        intervals = self._intervals()
        if file.route is None:
            self._note((), "no routes provided: the file needs a route")
        else:
            self._check_root(file.route)
            self._check_route(file.route, ("route",), receivers, intervals)
        if self._wrong or file.route is None:
            raise ConfigError("\n".join(self._wrong))
        return Configuration(
            route=file.route,
            receivers=receivers,
            inhibit_rules=file.inhibit_rules,
            intervals=intervals,
            resolve_timeout_ms=options.resolve_timeout,
            templates=tuple(str(self._folder / pattern) for pattern in file.templates),
            original=documents.written(documents.redacted(self._document.value, file)),
            warnings=("tracing: no spans are sent yet",) if file.tracing else (),
        )

    def _receivers(self, options: GlobalOptions) -> dict[str, tuple[NamedIntegration, ...]]:
        found: dict[str, tuple[NamedIntegration, ...]] = {}
        for i, receiver in enumerate(self._file.receivers):
            path: documents.Path = ("receivers", i)
            if not receiver.name:
                self._note(path, "missing name in receiver")
            elif receiver.name in found:
                self._note((*path, "name"), f"the receiver name {receiver.name!r} is not unique")
            found[receiver.name] = tuple(self._integrations(receiver, path, options))
        return found

    def _integrations(
        self, receiver: ReceiverConfig, path: documents.Path, options: GlobalOptions
    ) -> Iterator[NamedIntegration]:
        for field in type(receiver).model_fields:
            if not field.endswith("_configs"):
                continue
            for i, config in enumerate(getattr(receiver, field)):
                try:
                    whole = _resolved(filled_in(config, options), self._folder)
                except ValueError as err:
                    self._note((*path, field, i), str(err))
                    continue
                yield NamedIntegration(receiver.name, field.removesuffix("_configs"), i, whole)

    def _intervals(self) -> dict[str, tuple[TimeInterval, ...]]:
        found: dict[str, tuple[TimeInterval, ...]] = {}
        for field in ("mute_time_intervals", "time_intervals"):
            for i, named in enumerate(getattr(self._file, field)):
                if named.name in found:
                    self._note((field, i, "name"), f"{named.name!r} is not unique")
                found[named.name] = named.time_intervals
        return found

    def _check_root(self, root: RouteConfig) -> None:
        path = ("route",)
        if not root.receiver:
            self._note(path, "the root route must specify a default receiver")
        if root.conditions:
            self._note(path, "the root route must not have any matchers")
        for name in ("mute_time_intervals", "active_time_intervals"):
            if getattr(root, name):
                self._note((*path, name), f"the root route must not have any {name}")
        if root.continue_:
            self._note((*path, "continue"), "cannot have continue in the root route")

    def _check_route(
        self,
        route: RouteConfig,
        path: documents.Path,
        receivers: dict[str, Any],
        intervals: dict[str, Any],
    ) -> None:
        if route.receiver and route.receiver not in receivers:
            self._note((*path, "receiver"), f"undefined receiver {route.receiver!r} used in route")
        for field in ("mute_time_intervals", "active_time_intervals"):
            for i, name in enumerate(getattr(route, field)):
                if name not in intervals:
                    self._note((*path, field, i), f"undefined time interval {name!r}")
        if self._mode is Mode.CLASSIC:
            for i, name in enumerate(route.group_by or ()):
                if name != "..." and not CLASSIC_NAME.fullmatch(name):
                    self._note((*path, "group_by", i), f"invalid label name {name!r}")
        for i, child in enumerate(route.routes):
            self._check_route(child, (*path, "routes", i), receivers, intervals)

    def _note(self, path: documents.Path, message: str) -> None:
        self._wrong.append(self._document.at(path, message))


def _resolved(config: Integration, folder: Path) -> Integration:
    """The configuration with its paths absolute."""
    return _with_absolute_paths(config, folder)


def _with_absolute_paths(value: Any, folder: Path) -> Any:
    if not isinstance(value, BaseModel):
        return value
    changes: dict[str, Any] = {}
    for name in type(value).model_fields:
        item = getattr(value, name)
        if name.endswith("_file") and isinstance(item, str) and item:
            changes[name] = str(folder / item)
        elif name == "files" and isinstance(item, tuple):
            changes[name] = tuple(str(folder / path) for path in item)
        elif isinstance(item, BaseModel):
            changes[name] = _with_absolute_paths(item, folder)
        elif name == "http_headers":
            changes[name] = {k: _with_absolute_paths(v, folder) for k, v in item.items()}
    return value.model_copy(update=changes) if changes else value
