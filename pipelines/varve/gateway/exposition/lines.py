"""What the two text formats have in common: names, labels, escapes, where a line is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from varve.gateway.exposition.samples import ExposedSample, InvalidExposition, Said, shown

METRIC_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL_NAME = rb"[a-zA-Z_][a-zA-Z0-9_]*"
QUOTED = rb'"(?:\\.|[^\\"])*"'

_ESCAPE = re.compile(r"\\([\\n\"])")
_HELP_ESCAPE = re.compile(r"\\([\\n])")


class LineRead(NamedTuple):
    """What a line was. sample: None for a comment; said: what one says, if anything. series: the
    text that stands for it in lines that differ in their value alone; b"" if it may not be
    remembered. is_created: the sample's value says when those before it began. may_start: it may
    have such a line behind it.
    """

    sample: ExposedSample | None
    series: bytes = b""
    is_created: bool = False
    may_start: bool = False
    said: Said | None = None


NOTHING_READ = LineRead(None)


class LineReader:
    """Where reading a body line by line stands. kind, family: what the last TYPE line has said,
    which is to be set where lines are passed over. last: what the line read last was.
    """

    def __init__(self, content: bytes) -> None:
        self.body = content if content.endswith(b"\n") else content + b"\n"
        self.kind = "unknown"
        self.family = ""
        self.last = NOTHING_READ


def unescaped(text: str) -> str:
    r"""Text of a label: \\, \n and \" stand for one character; other backslashes for themselves."""
    return _ESCAPE.sub(_replacement, text) if "\\" in text else text


def unescaped_help(text: str) -> str:
    r"""Text of a HELP line of Prometheus' format, which has \\ and \n."""
    return _HELP_ESCAPE.sub(_replacement, text) if "\\" in text else text


def _replacement(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]


def name_of(token: bytes) -> str:
    """A name, quoted or not. Raises InvalidExposition."""
    if token[:1] == b'"':
        return unescaped(utf8(token[1:-1]))
    return token.decode("ascii")


def utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidExposition(f"{shown(text)} is not UTF-8") from None


def at_line(
    body: bytes, at: int, why: InvalidExposition | str, before: Sequence[ExposedSample] = ()
) -> InvalidExposition:
    """The same, with the number of the line and how it begins, and what was read before it."""
    number = body.count(b"\n", 0, at) + 1
    begin = body.rfind(b"\n", 0, at) + 1
    line = body[begin:].split(b"\n", 1)[0]
    found = InvalidExposition(f"line {number}, {shown(line)}: {why}")
    found.before = before
    return found


def family_of(name: str, family: str) -> str:
    """The family that a sample belongs to: the one that was described last, if its name is one of
    that; else its own name.
    """
    if name == family or not family:
        return name
    is_of = name.startswith(family) and name[len(family) :] in _SUFFIXES
    return family if is_of else name


_SUFFIXES = frozenset(
    {"_bucket", "_sum", "_count", "_total", "_created", "_info", "_gcount", "_gsum"}
)


def bound_of(kind: str) -> str:
    """The label of a type that holds a number; "" for a type without one."""
    return _BOUNDS.get(kind, "")


_BOUNDS: Mapping[str, str] = {"histogram": "le", "gaugehistogram": "", "summary": "quantile"}
