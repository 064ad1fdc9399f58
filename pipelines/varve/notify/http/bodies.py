"""Bodies and parameters of API v2: what a request may say, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from varve.notify.alerts import Sending
from varve.notify.matchers import Matcher, MatcherError, Mode, parse_matcher
from varve.notify.records import Silence
from varve.notify.silences import stored_matchers
from varve.notify.times import parse_ms
from varve.promql.syntax.regexes import compile_anchored


class Refused(Exception):
    """A request is refused: a status, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _PostedAlert(msgspec.Struct):
    labels: dict[str, str]
    annotations: dict[str, str] | None = None
    startsAt: str | None = None  # noqa: N815 - the API's name
    endsAt: str | None = None  # noqa: N815
    generatorURL: str | None = None  # noqa: N815


class _PostedMatcher(msgspec.Struct):
    name: str
    value: str
    isRegex: bool  # noqa: N815
    isEqual: bool | None = True  # noqa: N815


class _PostedSilence(msgspec.Struct):
    matchers: list[_PostedMatcher]
    startsAt: str  # noqa: N815
    endsAt: str  # noqa: N815
    createdBy: str  # noqa: N815
    comment: str
    id: str | None = ""
    annotations: dict[str, str] | None = None


_ALERTS = msgspec.json.Decoder(list[_PostedAlert])
_SILENCE = msgspec.json.Decoder(_PostedSilence)


def read_alerts(body: bytes) -> list[Sending]:
    """The alerts of a POST. Raises Refused if it is none of API v2."""
    return [
        Sending(
            labels=posted.labels,
            annotations=posted.annotations or {},
            starts_ms=_time("startsAt", posted.startsAt),
            ends_ms=_time("endsAt", posted.endsAt),
            generator_url=posted.generatorURL or "",
        )
        for posted in _decoded(_ALERTS, body)
    ]


def read_silence(body: bytes) -> Silence:
    """The silence of a POST; its id is empty for a new one. Raises Refused."""
    posted = _decoded(_SILENCE, body)
    starts_ms, ends_ms = _time("startsAt", posted.startsAt), _time("endsAt", posted.endsAt)
    if starts_ms is None or ends_ms is None:
        raise Refused(400, "a silence needs startsAt and endsAt")
    matchers = []
    for m in posted.matchers:
        operator = {
            (True, False): "=",
            (False, False): "!=",
            (True, True): "=~",
            (False, True): "!~",
        }[m.isEqual is not False, m.isRegex]
        try:
            matchers.append(Matcher(m.name, operator, m.value))
        except MatcherError as err:
            raise Refused(400, f"invalid silence: {m.name}: {err}") from None
    return Silence(
        id=posted.id or "",
        matchers=stored_matchers(matchers),
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        updated_ms=0,
        created_by=posted.createdBy,
        comment=posted.comment,
        annotations=posted.annotations or {},
    )


@dataclass(frozen=True)
class Query:
    """The parameters of a request, by name; each may be there several times."""

    parameters: Sequence[tuple[str, str]]
    mode: Mode = Mode.FALLBACK

    def flag(self, name: str) -> bool:
        """True unless it says false. Raises Refused if it says neither."""
        text = next((value for key, value in self.parameters if key == name), "true")
        if text.lower() in {"true", "1", "t"}:
            return True
        if text.lower() in {"false", "0", "f"}:
            return False
        raise Refused(422, f"{name} in query must be of type boolean: {text!r}")

    def filters(self) -> list[Matcher]:
        """Raises Refused if one is no matcher."""
        try:
            return [
                parse_matcher(value, self.mode)
                for key, value in self.parameters
                if key == "filter" and value.strip()
            ]
        except MatcherError as err:
            raise Refused(400, str(err)) from None

    def receiver(self) -> Any:
        """A compiled expression for names of receivers; None if every one is wanted."""
        text = next((value for key, value in self.parameters if key == "receiver"), "")
        if not text:
            return None
        try:
            return compile_anchored(text)
        except ValueError as err:
            raise Refused(400, f"failed to parse receiver param: {err}") from None


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as err:
        raise Refused(422 if "required" in str(err) else 400, f"invalid body: {err}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise Refused(400, f"the body is no JSON: {err}") from None


def _time(name: str, text: str | None) -> int | None:
    if not text:
        return None
    try:
        return parse_ms(text)
    except ValueError as err:
        raise Refused(400, f"invalid body: {name}: {err}") from None
