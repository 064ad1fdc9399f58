"""Bodies and parameters of API v2: what a request may say, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from varve.notify.alerts import Sending
from varve.notify.matchers import Matcher, MatcherError, Mode, parse_matcher
from varve.notify.records import Silence
from varve.notify.silences import stored_matchers
from varve.notify.times import parse_ms
from varve.promql.syntax.regexes import compile_anchored


class Refused(Exception):
    """A request is refused: a status, and why.

    code: that of Alertmanager's API where a request is not of its form; 0 if it is, and cannot be
    met. Clients tell the two apart by the body: an object, or a text.
    """

    def __init__(self, status: int, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.body: object = {"code": code, "message": message} if code else message


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


_ALERTS = msgspec.json.Decoder(list[_PostedAlert] | None)
_SILENCE = msgspec.json.Decoder(_PostedSilence)

# What is wrong with the form of a request, by the numbers that go-openapi gives.
NOT_READABLE = 400
_OF_ANOTHER_FORM = 601
_REQUIRED = 602
_TOO_FEW = 612
_MISSING = re.compile(r"missing required field `(\w+)`(?: - at `\$([^`]*)`)?")
_WANTED_BUT_NULL = re.compile(r"Expected `(?:object|array)`, got `null` - at `\$([^`]+)`")
_URI = re.compile(r"(?:/|[a-zA-Z][a-zA-Z0-9+.-]*:)[^\x00-\x20\x7f]*(?: [^\x00-\x1f\x7f]*)?")
_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE
)
# swag.ConvertBool of Go: whatever else a flag says means no.
_YES = frozenset({"true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"})


def read_alerts(body: bytes) -> list[Sending]:
    """The alerts of a POST. Raises Refused if it is none of API v2."""
    return [
        Sending(
            labels=posted.labels,
            annotations=posted.annotations or {},
            starts_ms=_time("startsAt", posted.startsAt),
            ends_ms=_time("endsAt", posted.endsAt),
            generator_url=_uri(f"{number}.generatorURL", posted.generatorURL or ""),
        )
        for number, posted in enumerate(_decoded(_ALERTS, body, "alerts") or ())
    ]


def read_silence(body: bytes) -> Silence:
    """The silence of a POST; its id is empty for a new one. Raises Refused."""
    posted = _decoded(_SILENCE, body, "silence")
    starts_ms, ends_ms = _time("startsAt", posted.startsAt), _time("endsAt", posted.endsAt)
    if starts_ms is None or ends_ms is None:
        raise Refused(400, "a silence needs startsAt and endsAt")
    if not posted.matchers:
        raise Refused(422, "matchers in body should have at least 1 items", _TOO_FEW)
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
        """True unless it is there and says anything but yes."""
        text = next((value for key, value in self.parameters if key == name), "true")
        return text.lower() in _YES

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


def require_silence_id(text: str) -> None:
    """Raises Refused if it is no UUID, as every id of a silence is."""
    if not _UUID.fullmatch(text):
        why = f'silenceID in path must be of type uuid: "{text}"'
        raise Refused(422, why, _OF_ANOTHER_FORM)


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes, what: str) -> Any:
    if not body:
        raise Refused(422, f"{what} in body is required", _REQUIRED)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as err:
        if path := _missing(str(err)):
            raise Refused(422, f"{path} in body is required", _REQUIRED) from None
        raise Refused(400, f"invalid body: {err}", NOT_READABLE) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise Refused(400, f"the body is no JSON: {err}", NOT_READABLE) from None


def _missing(error: str) -> str:
    """The path of a field that is wanted and not there, such as 0.labels; "" if it is not that."""
    if found := _MISSING.search(error):
        path = f"{found[2] or ''}.{found[1]}"
    elif found := _WANTED_BUT_NULL.search(error):
        path = found[1]
    else:
        return ""
    return re.sub(r"\[(\d+)\]", r".\1", path).strip(".")


@lru_cache(maxsize=4_096)
def _is_uri(text: str) -> bool:
    return _URI.fullmatch(text) is not None


def _uri(name: str, text: str) -> str:
    if text and not _is_uri(text):
        why = f'{name} in body must be of type uri: "{text}"'
        raise Refused(422, why, _OF_ANOTHER_FORM)
    return text


def _time(name: str, text: str | None) -> int | None:
    if not text:
        return None
    try:
        return parse_ms(text)
    except ValueError as err:
        raise Refused(400, f"invalid body: {name}: {err}", NOT_READABLE) from None
