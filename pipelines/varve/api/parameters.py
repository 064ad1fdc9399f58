"""Parameters of a request as Prometheus reads them, and what it says when it cannot.

Source: Prometheus 3, web/api/v1/api.go (parseTime, parseDuration, parseLimitParam).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from starlette.requests import Request

from varve.model.errors import BadRequest
from varve.promql.syntax.ast import Matcher, VectorSelector
from varve.promql.syntax.cursor import ParseError
from varve.promql.syntax.literals import parse_duration
from varve.promql.syntax.parser import parse

MAX_FORM_BYTES = 10_000_000
MIN_TIME_MS = -(2**63) // 1_000_000
MAX_TIME_MS = 2**63 // 1_000_000

# What clients send for "no bound": the ends of Go's time.
_ENDS = {
    "-292273086-05-16T16:47:06Z": MIN_TIME_MS,
    "292277025-08-18T07:12:54.999999999Z": MAX_TIME_MS,
}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Parameters:
    """Names and values in the order given; of a name given twice `get` has the first value."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)

    def get(self, name: str) -> str:
        """Empty if it was not given."""
        return next((value for key, value in self._pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


async def parameters(request: Request) -> Parameters:
    """Of the form and of the address, the form's first. BadRequest if the form is too large."""
    pairs = _decoded(request.scope["query_string"])
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type == "application/x-www-form-urlencoded":
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise BadRequest("http: POST too large")
        pairs = _decoded(bytes(body)) + pairs
    return Parameters(pairs)


def time_ms(given: Parameters, name: str, default: int | None = None) -> int:
    """A time, RFC 3339 or seconds since the epoch, in ms. BadRequest names the parameter."""
    text = given.get(name)
    if not text and default is not None:
        return default
    try:
        return parse_time_ms(text)
    except ValueError as err:
        raise invalid(name, str(err)) from err


def duration_ms(given: Parameters, name: str, default: int | None = None) -> int:
    """A duration, seconds or as in PromQL, in ms. BadRequest names the parameter."""
    text = given.get(name)
    if not text and default is not None:
        return default
    try:
        return parse_duration_ms(text)
    except ValueError as err:
        raise invalid(name, str(err)) from err


def limit(given: Parameters, name: str = "limit") -> int:
    """The most items wanted; 0, the default, is all. BadRequest if below."""
    text = given.get(name)
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        raise invalid(name, f'cannot parse "{text}" to a valid limit')
    if int(text) < 0:
        raise invalid(name, f'"{text}": limit must be non-negative')
    return int(text)


def matchers(given: Parameters, *, required: bool) -> list[tuple[Matcher, ...]]:
    """The match[] selectors. BadRequest if one is no selector or all of it may be empty."""
    texts = given.all("match[]")
    if required and not texts:
        raise BadRequest("no match[] parameter provided")
    return [_selector(text) for text in texts]


def parse_time_ms(text: str) -> int:
    """ValueError if it is no time."""
    if _DECIMAL.fullmatch(text):
        ms = float(text) * 1000
        if MIN_TIME_MS <= ms <= MAX_TIME_MS:
            return math.floor(ms + 0.5)
    elif match := _RFC3339.fullmatch(text):
        date, clock, fraction, zone = match.groups()
        try:
            whole = datetime.fromisoformat(f"{date}T{clock}{zone.upper()}")
        except ValueError:
            pass
        else:
            return (whole - _EPOCH) // timedelta(milliseconds=1) + int(
                (fraction or "0").ljust(3, "0")[:3]
            )
    elif text in _ENDS:
        return _ENDS[text]
    raise ValueError(f'cannot parse "{text}" to a valid timestamp')


def parse_duration_ms(text: str) -> int:
    """ValueError if it is no duration or longer than 292 years."""
    if _DECIMAL.fullmatch(text):
        seconds = float(text)
        if abs(seconds) * 1e9 > 2**63:
            raise ValueError(f'cannot parse "{text}" to a valid duration. It overflows int64')
        return int(seconds * 1000)
    try:
        return int(parse_duration(text) * 1000)
    except ValueError as err:
        raise ValueError(f'cannot parse "{text}" to a valid duration') from err


def invalid(name: str, why: str) -> BadRequest:
    return BadRequest(f'invalid parameter "{name}": {why}')


def _selector(text: str) -> tuple[Matcher, ...]:
    try:
        tree = parse(text)
    except ParseError as err:
        raise invalid("match[]", str(err)) from err
    if not isinstance(tree, VectorSelector) or tree.offset is not None or tree.at is not None:
        raise invalid("match[]", f"{text!r} is not a plain vector selector")
    return tree.matchers


def _decoded(form: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(form.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
    except ValueError as err:
        raise BadRequest(f"malformed form: {err}") from err
