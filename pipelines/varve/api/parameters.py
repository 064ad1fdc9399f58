"""Parameters of a request as Prometheus reads them, and what it says when it cannot.

Source: Prometheus 3, web/api/v1/api.go (parseTime, parseDuration, parseLimitParam).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from urllib.parse import unquote_to_bytes

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from varve.model.errors import BadRequest
from varve.promql.syntax.ast import Matcher
from varve.query.selectors import parse_selector
from varve.query.times import MAX_TIME_MS, MIN_TIME_MS, parse_duration_ms, parse_time_ms

MAX_FORM_BYTES = 10_000_000

Take = Callable[[int], None]

# Of what is sent: its pieces, the whole of them, and what is read of that.
_COPIES = 3


def _freely(_: int) -> None:
    """Gives memory to who asks for it."""


class Parameters:
    """Names and values in the order given; a name may be given more than once.

    Every method raises BadRequest, naming the parameter, for a value that it cannot read.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """All of them, in their order."""
        return self._pairs

    def get(self, name: str) -> str:
        """The first value of a name, empty if it was not given."""
        return next((value for key, value in self._pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def time_ms(self, name: str, default: int | None = None) -> int:
        """A time, RFC 3339 or Unix seconds, in ms. Without a default it must be given."""
        text = self.get(name)
        if not text and default is not None:
            return default
        try:
            return parse_time_ms(text)
        except ValueError as err:
            raise invalid(name, str(err)) from err

    def time_bounds_ms(self) -> tuple[int, int]:
        """start and end, by default as wide as times go; nothing lies between if end is first."""
        return self.time_ms("start", MIN_TIME_MS), self.time_ms("end", MAX_TIME_MS)

    def duration_ms(self, name: str) -> int:
        """A duration, seconds or as in PromQL, in ms. It must be given."""
        try:
            return parse_duration_ms(self.get(name))
        except ValueError as err:
            raise invalid(name, str(err)) from err

    def timeout_s(self) -> float | None:
        """The time that the client gives a query; None if it says nothing. Without any, it is over
        at once.
        """
        return max(0.0, self.duration_ms("timeout") / 1000) if self.get("timeout") else None

    def limit(self, name: str = "limit") -> int:
        """The most items wanted, never negative; 0, the default, means all."""
        text = self.get(name)
        if not text:
            return 0
        if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
            raise invalid(name, f'cannot parse "{text}" to a valid limit')
        if int(text) < 0:
            raise invalid(name, f'"{text}": limit must be non-negative')
        return int(text)

    def matchers(self, *, required: bool) -> list[tuple[Matcher, ...]]:
        """The match[] selectors; at least one if `required`."""
        texts = self.all("match[]")
        if required and not texts:
            raise BadRequest("no match[] parameter provided")
        try:
            return [parse_selector(text) for text in texts]
        except ValueError as err:
            raise invalid("match[]", str(err)) from err


async def read_parameters(request: Request, take: Take = _freely) -> Parameters:
    """Reads the form, of either kind, and the address; the form comes first.

    take: asked for the bytes of the form before they are held. Raises BadRequest if the form is too
    large or is none.
    """
    pairs = _decoded(request.scope["query_string"])
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type == "application/x-www-form-urlencoded":
        pairs = _decoded(await read_body(request, MAX_FORM_BYTES, take)) + pairs
    elif request.method == "POST" and media_type == "multipart/form-data":
        pairs = await _multipart(request, take) + pairs
    return Parameters(pairs)


def invalid(name: str, why: str) -> BadRequest:
    """The error for a parameter that cannot be used, in Prometheus' words."""
    return BadRequest(f'invalid parameter "{name}": {why}')


async def read_body(request: Request, most: int, take: Take = _freely) -> bytes:
    """What was sent. BadRequest if it is over `most` bytes. take: as of `read_parameters`."""
    return b"".join([piece async for piece in _bounded(request.stream(), take, most)])


async def _bounded(
    pieces: AsyncIterable[bytes], take: Take, most: int = MAX_FORM_BYTES
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise BadRequest(f"http: POST too large: a body may have {most:,} bytes")
        take(_COPIES * len(piece))
        yield piece


async def _multipart(request: Request, take: Take) -> list[tuple[str, str]]:
    """The fields of a form in parts, which may hold no files."""
    pieces = _bounded(request.stream(), take)
    parser = MultiPartParser(request.headers, pieces, max_files=0, max_part_size=MAX_FORM_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, LookupError, UnicodeDecodeError) as err:
        raise BadRequest(f"the form cannot be read: {err}") from err
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _decoded(form: bytes) -> list[tuple[str, str]]:
    pairs = (pair.partition(b"=") for pair in form.split(b"&") if pair)
    return [(_text(name), _text(value)) for name, _, value in pairs]


def _text(escaped: bytes) -> str:
    """UTF-8, whether its bytes are escaped or not; bytes that are none become surrogates."""
    raw = unquote_to_bytes(escaped.replace(b"+", b" "))
    return raw.decode("utf-8", "surrogateescape")
