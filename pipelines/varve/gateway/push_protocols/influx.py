"""Influx' line protocol, by the paths of its versions 1 and 2.

Source: InfluxData, "Line protocol reference", "InfluxDB API", /write and /api/v2/write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from varve.gateway.content_encoding import plain_body
from varve.gateway.decoded import Decoded
from varve.gateway.push import Answer, PushRequest, json_answer, refused_in_part, with_hints
from varve.gateway.refusals import Malformed, Refusal, Refusals, Refused
from varve.gateway.statsd.lines import clean
from varve.gateway.write_request import Message, WriteRequest

V1, V2 = "/write", "/api/v2/write"
_PER_MS = {
    "": 1e6, "n": 1e6, "ns": 1e6, "u": 1e3, "us": 1e3, "µ": 1e3, "ms": 1.0, "s": 1e-3,
    "m": 1 / 60_000, "h": 1 / 3_600_000,
}  # fmt: skip

_KEY = r"(?:\\.|[^,= \n\\])+"
_FIELD = r'(?:"(?:\\.|[^"\\])*"|[^," \n]+)'
_LINE = re.compile(
    rf"[ \t]*((?:\\.|[^, \n\\])+)((?:,{_KEY}={_KEY})*) +({_KEY}={_FIELD}(?:,{_KEY}={_FIELD})*)"
    r"(?: +(-?[0-9]{1,19}))?[ \r]*(?:\n|$)",
    re.DOTALL,
)
_TAG = re.compile(rf",({_KEY})=({_KEY})", re.DOTALL)
_FIELDS = re.compile(rf"({_KEY})=({_FIELD})(?:,|$)", re.DOTALL)
_BLANK = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|$)")
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[iu]?")
_ESCAPED = re.compile(r"\\([,= \\])")
_BOOLEANS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), 0.0),
}


class Influx:
    """Fields of lines become samples; texts, which are none, are passed over."""

    name = "influx"

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """now_ms: the time of lines that say none."""
        self._now_ms = now_ms

    def takes(self, request: PushRequest) -> bool:
        return request.path in (V1, V2)

    def begin(self, request: PushRequest) -> _Body:
        if request.method != "POST":
            raise Refused(405, "line protocol is a POST")
        said = parse_qs(request.query).get("precision", [""])[-1]
        if said not in _PER_MS:
            raise Refused(400, f"there is no precision {said[:20]!r}: ns, us, ms and s are known")
        return _Body(request.encoding, _PER_MS[said], self._now_ms(), request.path == V2)


@dataclass(frozen=True, slots=True)
class _Body:
    encoding: str
    per_ms: float
    now_ms: int
    is_v2: bool

    def message(self, body: bytes, most: int) -> Message:
        content = plain_body(body, self.encoding, most)
        try:
            text = content.decode()
        except UnicodeDecodeError as err:
            raise Malformed(f"the body is not UTF-8: {err}") from err
        request, refusals = WriteRequest(), Refusals()
        at = 0
        while at < len(text):
            found = _LINE.match(text, at)
            if found is not None and text[found.start(1)] != "#":
                at = found.end()
                self._add(request, refusals, found)
                continue
            blank = _BLANK.match(text, at)
            if blank is None:
                end = text.find("\n", at)
                line = text[at:] if end < 0 else text[at:end]
                refusals.add(Refusal.MALFORMED, f"{line[:80]!r} is no line of the protocol", 1)
                at = len(text) if end < 0 else end + 1
            else:
                at = blank.end()
        return request.message(refusals)

    def _add(self, request: WriteRequest, refusals: Refusals, line: re.Match[str]) -> None:
        measurement = _unescaped(line[1])
        tags = {clean(_unescaped(name)): _unescaped(value) for name, value in _TAG.findall(line[2])}
        tags.pop("__name__", None)
        ts_ms = self.now_ms if line[4] is None else int(int(line[4]) / self.per_ms)
        for name, text in _FIELDS.findall(line[3]):
            if text.startswith('"'):
                continue
            value = _value(text)
            if value is None:
                refusals.add(Refusal.MALFORMED, f"{measurement}: {text[:40]!r} is no field", 1)
                continue
            field_name = _unescaped(name)
            metric = measurement if field_name == "value" else f"{measurement}_{field_name}"
            request.add(sorted({**tags, "__name__": clean(metric)}.items()), value, ts_ms)

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        refused = why or refused_in_part(found.refusals)
        return self.refusal(refused) if refused else Answer(204)

    def refusal(self, refused: Refused) -> Answer:
        text = str(refused)
        content = {"code": _code(refused), "message": text} if self.is_v2 else {"error": text}
        return with_hints(json_answer(refused.status, content), refused)


def _code(refused: Refused) -> str:
    known = {401: "unauthorized", 413: "request too large", 429: "too many requests"}
    return known.get(refused.status, "unavailable" if refused.status == 503 else "invalid")


def _value(text: str) -> float | None:
    number = _NUMBER.fullmatch(text)
    return float(number[1]) if number else _BOOLEANS.get(text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
