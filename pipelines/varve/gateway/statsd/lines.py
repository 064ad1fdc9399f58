"""Lines of StatsD and DogStatsD.

Source: Datadog, "DogStatsD Datagram Format", versions 1.0 to 1.4; etsy/statsd, metric_types.md.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

Labels = tuple[tuple[str, str], ...]

COUNTER, GAUGE, OBSERVATIONS, SET = "c", "g", "h", "s"
"""Kinds of metrics; timers and distributions are observations."""

_KINDS: Final = {
    "c": COUNTER, "g": GAUGE, "ms": OBSERVATIONS, "h": OBSERVATIONS, "d": OBSERVATIONS, "s": SET,
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PLAIN = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,20})?")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_TIME = re.compile(r"[0-9]{1,12}")
_REMEMBERED = 50_000


class InvalidLine(ValueError):
    """A line is refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A metric's line. tags: labels without the name, sorted, none empty. values: as they are
    written. rate: of sampling, in (0, 1]. at_s: the time it says, None if it says none.
    """

    name: str
    kind: str
    is_ms: bool
    values: tuple[str, ...]
    tags: Labels
    rate: float = 1.0
    at_s: int | None = None


def lines_of(packet: bytes) -> list[str]:
    """The lines of a packet, blank ones too. Bytes that are no UTF-8 are replaced."""
    return packet.decode(errors="replace").split("\n")


def is_no_metric(line: str) -> bool:
    """Whether a line is an event or a service check, which are taken and dropped."""
    return line.startswith(("_e{", "_sc|"))


def parse(line: str) -> Line:
    """Raises InvalidLine."""
    name, colon, rest = line.partition(":")
    if not colon or not name:
        raise InvalidLine("there is no name and colon")
    text, *sections = rest.split("|")
    if not sections:
        raise InvalidLine("there is no type")
    kind = _KINDS.get(sections[0])
    if kind is None:
        raise InvalidLine(f"there is no type {sections[0][:20]!r}")
    rate, at_s = 1.0, None
    tags = _NO_TAGS
    container = ""
    for section in sections[1:]:
        sign = section[:1]
        if sign == "#":
            tags = _merged(tags, _tags(section[1:])) if tags else _tags(section[1:])
        elif sign == "@":
            rate = rate if kind in (GAUGE, SET) else _rate(section[1:])
        elif section.startswith("c:"):
            container = section[2:]
        elif sign == "T" and _TIME.fullmatch(section[1:]):
            at_s = int(section[1:])
        elif not section.startswith(("e:", "card:")):
            raise InvalidLine(f"there is no section {section[:20]!r}")
    if container:
        tags = _merged(tags, (("container_id", container),))
    if kind == OBSERVATIONS:
        tags = tuple(pair for pair in tags if pair[0] != "le")
    values = (text,) if kind == SET else tuple(text.split(":"))
    return Line(clean(name), kind, sections[0] == "ms", values, tags, rate, at_s)


def is_plain(text: str) -> bool:
    """Whether a value is a number without a sign, as nearly all are: valid for every kind.

    >>> is_plain("320"), is_plain("0.25"), is_plain("-1"), is_plain("1e3")
    (True, True, False, False)
    """
    return _PLAIN.fullmatch(text) is not None


def value_of(text: str) -> float:
    """A finite number. Raises InvalidLine."""
    if not _NUMBER.fullmatch(text) or math.isinf(found := float(text)):
        raise InvalidLine(f"{text[:40]!r} is no number")
    return found


@lru_cache(_REMEMBERED)
def clean(name: str) -> str:
    """A name of a metric or label from one of StatsD.

    >>> clean("web.front-1"), clean("1st")
    ('web_front_1', '_1st')
    """
    found = _NOT_IN_NAMES.sub("_", name)
    return f"_{found}" if found[:1].isdigit() else found


_NO_TAGS: Final[Labels] = ()


@lru_cache(_REMEMBERED)
def _tags(text: str) -> Labels:
    found: dict[str, str] = {}
    for tag in text.split(","):
        name, colon, value = tag.partition(":")
        if not colon:
            value = "true"
        if name and value:
            found[clean(name)] = value
    found.pop("__name__", None)
    return tuple(sorted(found.items()))


def _merged(tags: Labels, more: Labels) -> Labels:
    return tuple(sorted((dict(tags) | dict(more)).items()))


def _rate(text: str) -> float:
    rate = value_of(text)
    if not 0 < rate <= 1:
        raise InvalidLine(f"the sample rate {text[:20]} is not in (0, 1]")
    return rate
