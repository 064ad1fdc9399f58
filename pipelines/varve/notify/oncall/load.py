"""Reads oncall.yml, and checks it against alertmanager.yml."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, ValidationError

from varve.notify.config.document import ConfigError, Document, read_document
from varve.notify.config.fields import (
    DurationMs,
    Fields,
    FilePath,
    Flag,
    Integer,
    Text,
    TextMap,
    Texts,
)
from varve.notify.config.load import NamedIntegration
from varve.notify.matchers import Matcher, MatcherError, Mode, parse_matchers
from varve.notify.oncall.on_call import (
    SCHEDULE,
    Fallback,
    Flapping,
    OnCall,
    Step,
    Throttle,
    Watchdog,
)
from varve.notify.oncall.schedules import Override, Rotation, Schedule, to_ms
from varve.notify.oncall.signed_links import LEAST_KEY_BYTES, SignedLinks

Receivers = Mapping[str, tuple[NamedIntegration, ...]]
"""Those of alertmanager.yml, by name."""

_INCIDENTS = frozenset({"pagerduty", "opsgenie", "victorops", "jira", "incidentio"})


def _local(value: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value} is no time such as 2026-11-30T09:00") from None
    if at.tzinfo is not None:
        raise ValueError("is a time of time_zone, so it has no zone of its own")
    return at


LocalTime = Annotated[datetime, BeforeValidator(_local)]


class _Rotation(Fields):
    members: Texts
    starts: LocalTime
    shift: DurationMs


class _Override(Fields):
    member: Text
    start: LocalTime = Field(alias="from")
    end: LocalTime = Field(alias="to")


class _Schedule(Fields):
    time_zone: Text = "UTC"
    rotations: tuple[_Rotation, ...] = ()
    overrides: tuple[_Override, ...] = ()
    ical: FilePath = ""


class _Step(Fields):
    after: DurationMs = 0
    notify: Texts


class _Watchdog(Fields):
    name: Text
    matchers: Texts
    within: DurationMs
    labels: TextMap = Field(default_factory=dict)
    annotations: TextMap = Field(default_factory=dict)


class _Links(Fields):
    key_file: FilePath
    valid_for: DurationMs = 24 * 3_600_000


class _Throttle(Fields):
    messages: Integer
    per: DurationMs


class _Flapping(Fields):
    fires: Integer = 3
    within: DurationMs = 30 * 60_000


class _Fallback(Fields):
    receiver: Text
    after: DurationMs = 5 * 60_000
    labels: TextMap = Field(default_factory=dict)


class _File(Fields):
    schedules: dict[str, _Schedule] = Field(default_factory=dict)
    receivers: dict[str, tuple[_Step, ...]] = Field(default_factory=dict)
    watchdogs: tuple[_Watchdog, ...] = ()
    throttles: dict[str, _Throttle] = Field(default_factory=dict)
    flapping: _Flapping | None = None
    acknowledge_links: _Links | None = None
    silenced_ends: Flag = False
    fallback: _Fallback | None = None


def load_on_call(path: Path, receivers: Receivers, mode: Mode = Mode.FALLBACK) -> OnCall:
    """Reads a file. receivers: of alertmanager.yml. Raises ConfigError with a line for each thing
    that is wrong.
    """
    try:
        text = path.read_text()
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: no UTF-8 at byte {err.start}") from err
    return read_on_call(text, receivers, name=str(path), folder=path.parent, mode=mode)


def read_on_call(
    text: str,
    receivers: Receivers,
    *,
    name: str = "oncall.yml",
    folder: Path | None = None,
    mode: Mode = Mode.FALLBACK,
) -> OnCall:
    """Reads the text of a file; paths in it count from `folder`. Raises ConfigError."""
    document = read_document(text, name)
    try:
        file = _File.model_validate(document.value)
    except ValidationError as err:
        raise document.errors_of(err) from None
    return _Checker(document, file, receivers, folder or Path.cwd(), mode).checked()


class _Checker:
    def __init__(
        self,
        document: Document,
        file: _File,
        receivers: Receivers,
        folder: Path,
        mode: Mode,
    ) -> None:
        self._document, self._file = document, file
        self._receivers, self._folder, self._mode = receivers, folder, mode
        self._wrong: list[str] = []

    def checked(self) -> OnCall:
        schedules = {
            name: schedule
            for name, written in self._file.schedules.items()
            if (schedule := self._schedule(name, written)) is not None
        }
        chains = {name: self._chain(name, steps) for name, steps in self._file.receivers.items()}
        watchdogs = tuple(
            self._watchdog(place, one) for place, one in enumerate(self._file.watchdogs)
        )
        links = self._links(self._file.acknowledge_links)
        for name, throttle in self._file.throttles.items():
            self._check_throttle(name, throttle)
        flapping = self._file.flapping
        if flapping is not None and (flapping.fires < 2 or flapping.within <= 0):
            self._note(("flapping",), "needs at least 2 fires, within more than no time")
        fallback = self._file.fallback
        if fallback is not None:
            self._require(("fallback", "receiver"), fallback.receiver)
        if self._wrong:
            raise ConfigError("\n".join(self._wrong))
        return OnCall(
            schedules,
            chains,
            watchdogs,
            links,
            {name: Throttle(one.messages, one.per) for name, one in self._file.throttles.items()},
            None if flapping is None else Flapping(flapping.fires, flapping.within),
            self._file.silenced_ends,
            None
            if fallback is None
            else Fallback(fallback.receiver, fallback.after, fallback.labels),
        )

    def _schedule(self, name: str, written: _Schedule) -> Schedule | None:
        path = ("schedules", name)
        try:
            zone = ZoneInfo(written.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._note((*path, "time_zone"), f"{written.time_zone!r} is no time zone")
            return None
        rotations = []
        for place, rotation in enumerate(written.rotations):
            here = (*path, "rotations", place)
            if not rotation.members:
                self._note((*here, "members"), "nobody is in it")
            if rotation.shift < 60_000:
                self._note((*here, "shift"), "is less than a minute")
                continue
            for member in rotation.members:
                self._require((*here, "members"), member)
            if rotation.members:
                shift = timedelta(milliseconds=rotation.shift)
                rotations.append(Rotation(rotation.members, rotation.starts, shift))
        overrides = []
        for place, one in enumerate(written.overrides):
            here = (*path, "overrides", place)
            self._require((*here, "member"), one.member)
            start_ms, end_ms = to_ms(one.start, zone), to_ms(one.end, zone)
            if end_ms <= start_ms:
                self._note(here, "ends before it begins")
            overrides.append(Override(one.member, start_ms, end_ms))
        overrides += self._from_calendar((*path, "ical"), written.ical, zone)
        if not rotations and not overrides:
            self._note(path, "has no rotation and no override")
        return Schedule(name, zone, tuple(rotations), tuple(overrides))

    def _from_calendar(
        self, path: tuple[str | int, ...], file: str, zone: ZoneInfo
    ) -> tuple[Override, ...]:
        if not file:
            return ()
        # It takes a moment, and few have such a file.
        from varve.notify.oncall.ical import overrides_of  # noqa: PLC0415

        try:
            found = overrides_of((self._folder / file).read_bytes(), zone)
        except OSError as err:
            self._note(path, f"{file}: {err.strerror}")
            return ()
        except ValueError as err:
            self._note(path, f"{file}: {err}")
            return ()
        for one in found:
            self._require(path, one.member)
        return found

    def _chain(self, name: str, steps: tuple[_Step, ...]) -> tuple[Step, ...]:
        path = ("receivers", name)
        self._require(path, name)
        for place, step in enumerate(steps):
            here = (*path, place, "notify")
            if not step.notify:
                self._note(here, "nobody is told")
            for target in step.notify:
                schedule = target.removeprefix(SCHEDULE)
                if schedule == target:
                    self._require(here, target)
                elif schedule not in self._file.schedules:
                    self._note(here, f"there is no schedule {schedule!r}")
        return tuple(Step(step.after, step.notify) for step in steps)

    def _watchdog(self, place: int, one: _Watchdog) -> Watchdog:
        path = ("watchdogs", place)
        matchers: list[Matcher] = []
        before = len(self._wrong)
        for number, text in enumerate(one.matchers):
            try:
                matchers += parse_matchers(text, self._mode)
            except MatcherError as err:
                self._note((*path, "matchers", number), str(err))
        if not matchers and len(self._wrong) == before:
            self._note((*path, "matchers"), "would be any alert: name the one that is expected")
        if one.within <= 0:
            self._note((*path, "within"), "is not above zero")
        return Watchdog(one.name, tuple(matchers), one.within, one.labels, one.annotations)

    def _check_throttle(self, name: str, throttle: _Throttle) -> None:
        path = ("throttles", name)
        self._require(path, name)
        if throttle.messages < 1:
            self._note((*path, "messages"), "is not above zero")
        if throttle.per <= 0:
            self._note((*path, "per"), "is not above zero")
        kinds = {one.kind for one in self._receivers.get(name, ())} & _INCIDENTS
        if kinds:
            self._note(
                path,
                f"opens incidents ({', '.join(sorted(kinds))}), one a group: a digest of several"
                " would open one that nothing ends",
            )

    def _links(self, written: _Links | None) -> SignedLinks | None:
        if written is None:
            return None
        path = ("acknowledge_links", "key_file")
        if written.valid_for <= 0:
            self._note(("acknowledge_links", "valid_for"), "is not above zero")
        try:
            key = (self._folder / written.key_file).read_bytes().strip()
        except OSError as err:
            self._note(path, f"{written.key_file}: {err.strerror}")
            return None
        if len(key) < LEAST_KEY_BYTES:
            self._note(
                path,
                f"{written.key_file} has fewer than {LEAST_KEY_BYTES} bytes: make one by"
                " `openssl rand -hex 32`",
            )
            return None
        return SignedLinks(key, written.valid_for)

    def _require(self, path: tuple[str | int, ...], receiver: str) -> None:
        if receiver not in self._receivers:
            self._note(path, f"{receiver!r} is no receiver of alertmanager.yml")

    def _note(self, path: tuple[str | int, ...], message: str) -> None:
        self._wrong.append(self._document.at(path, message))
