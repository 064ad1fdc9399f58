"""OpenMetrics' text format, 0.0.1 and 1.0.0.

Source: OpenMetrics 1.0; Prometheus, model/textparse/openmetricsparse.go, openmetricslex.l.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from varve.gateway.exposition.lines import (
    LABEL_NAME,
    METRIC_NAME,
    QUOTED,
    Known,
    at_line,
    bound_of,
    family_of,
    name_of,
    unescaped,
    utf8,
)
from varve.gateway.exposition.samples import (
    ExposedExemplar,
    ExposedSample,
    Exposition,
    InvalidExposition,
    bound_label,
    labels_of,
    number,
)
from varve.gateway.write_request import Labels

_META = re.compile(rb"# (HELP|TYPE|UNIT) (%s|%s)( [^\n]*)\n" % (QUOTED, METRIC_NAME), re.DOTALL)
_NAME = re.compile(METRIC_NAME)
_LABEL = re.compile(rb"(%s|%s)" % (LABEL_NAME, QUOTED), re.DOTALL)
_VALUE = re.compile(rb'=("(?:\\.|[^\\"\n])*")')
_SAMPLE_END = re.compile(rb" ([^ \n]+)(?: (?!#)([^ \n]+))?(\n| # \{)")
_EXEMPLAR_END = re.compile(rb" ([^ \n]+)(?: ([^ \n]+))?\n")
_TYPES = {
    "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown",
}  # fmt: skip
_WITH_START = {"counter", "histogram", "summary"}
_CREATED = "_created"
_MOST_S = 9.2e15


class _Created(NamedTuple):
    """The line of a series that says when it began."""

    identity: Labels
    start_ms: int


_Entry = ExposedSample | _Created | None
"""What a line was; None for metadata."""


def parse_open_metrics(content: bytes, known: dict[str, Known] | None = None) -> Exposition:
    """The samples of a body; when a counter, histogram or summary was created is the start of its
    samples. known: as of parse_prometheus_text. Raises InvalidExposition.
    """
    return _Reading(content, {} if known is None else known).run()


class _Reading:
    def __init__(self, content: bytes, known: dict[str, Known]) -> None:
        self._known = known
        self._body = content if content.endswith(b"\n") else content + b"\n"
        self._found = Exposition()
        self._entries: list[tuple[_Entry, str, str]] = []
        self._kind = "unknown"
        self._family = ""

    def run(self) -> Exposition:
        body, at = self._body, 0
        while not body.startswith(b"# EOF\n", at):
            if at >= len(body) or body == b"\n":
                raise at_line(body, at, "the body does not end with # EOF", self._before())
            try:
                at = self._line(at)
            except InvalidExposition as bad:
                raise at_line(body, at, bad, self._before()) from None
        if body[at + len(b"# EOF\n") :]:
            at += len(b"# EOF\n")
            raise at_line(body, at, "there is something behind # EOF", self._before())
        self._found.samples = _with_starts(self._entries)
        return self._found

    def _before(self) -> list[ExposedSample]:
        return [entry for entry, *_ in self._entries if isinstance(entry, ExposedSample)]

    def _line(self, at: int) -> int:
        body = self._body
        if body.startswith(b"#", at):
            return self._metadata(at)
        # Most lines are a series that was here before, a space and a number.
        stop = body.find(b"\n", at)
        series, _, value = body[at:stop].rpartition(b" ")
        before = self._known_series().get(series)
        if before is None:
            return self._series(at)
        labels, family, name = before
        self._put(labels, number(value), None, (), family, name)
        return stop + 1

    def _known_series(self) -> Known:
        return self._known.setdefault(f"open {self._kind}", {})

    def _metadata(self, at: int) -> int:
        meta = _META.match(self._body, at)
        if meta is None:
            raise InvalidExposition("a comment is HELP, TYPE or UNIT, a name and what it is")
        what, name, text = meta[1], name_of(meta[2]), utf8(meta[3][1:])
        if what == b"HELP":
            self._found.describe(name, text=unescaped(text))
        elif what == b"TYPE":
            if text not in _TYPES:
                raise InvalidExposition(f"there is no type {text[:60]!r}")
            self._kind, self._family = text, name
            self._found.describe(name, kind=text)
        else:
            if text and not name.endswith(f"_{text}"):
                raise InvalidExposition(f"the unit {text[:60]!r} is no suffix of {name}")
            self._found.describe(name, unit=text)
        self._entries.append((None, "", ""))
        return meta.end()

    def _series(self, at: int) -> int:
        body, begin = self._body, at
        name = ""
        pairs: list[tuple[str, str]] = []
        named = _NAME.match(body, at)
        if named is not None:
            name, at = named[0].decode("ascii"), named.end()
        if body[at : at + 1] == b"{":
            name, at = self._labels(name, at + 1, pairs, escapes=True)
        elif named is None:
            raise InvalidExposition("this is neither a comment nor a sample")
        rest = _SAMPLE_END.match(body, at)
        if rest is None:
            raise InvalidExposition("behind the series there is no value, or more than a time")
        value = number(rest[1])
        ts_ms = None if rest[2] is None else _ms(rest[2])
        exemplars: tuple[ExposedExemplar, ...] = ()
        at = rest.end()
        if rest[3] != b"\n":
            exemplar, at = self._exemplar(at)
            exemplars = (exemplar,)
        bound = bound_of(self._kind)
        if bound:
            pairs = [(n, bound_label(v)) if n == bound else (n, v) for n, v in pairs]
        labels = labels_of(name, pairs)
        family = family_of(name, self._family)
        self._known_series()[body[begin : rest.start()]] = labels, family, name
        self._put(labels, value, ts_ms, exemplars, family, name)
        return at

    def _put(
        self,
        labels: Labels,
        value: float,
        ts_ms: int | None,
        exemplars: tuple[ExposedExemplar, ...],
        family: str,
        name: str,
    ) -> None:
        entry: _Entry = ExposedSample(labels, value, ts_ms, 0, exemplars, family)
        has_start = self._kind in _WITH_START
        if has_start and name.endswith(_CREATED):
            start_ms = int(value * 1000) if math.isfinite(value) else 0
            entry = _Created(_identity(labels), start_ms)
        self._entries.append((entry, self._family if has_start else "", name))

    def _labels(
        self, name: str, at: int, pairs: list[tuple[str, str]], *, escapes: bool
    ) -> tuple[str, int]:
        """The metric's name, which may be among the labels, and where the braces end."""
        body = self._body
        while body[at : at + 1] != b"}":
            label = _LABEL.match(body, at)
            if label is None:
                raise InvalidExposition("there is no label name where one must be")
            at = label.end()
            if body[at : at + 1] in (b",", b"}"):
                if name or label[1][:1] != b'"':
                    raise InvalidExposition(f"the label {name_of(label[1])} has no value")
                name = name_of(label[1])
                if not name:
                    raise InvalidExposition("the metric name is empty")
            else:
                value = _VALUE.match(body, at)
                if value is None:
                    raise InvalidExposition(f"the label {name_of(label[1])} has no value in quotes")
                text = utf8(value[1][1:-1])
                pairs.append((name_of(label[1]), unescaped(text) if escapes else text))
                at = value.end()
            if body[at : at + 1] == b",":
                at += 1
            elif body[at : at + 1] != b"}":
                raise InvalidExposition("behind a label comes a comma or a brace")
        return name, at + 1

    def _exemplar(self, at: int) -> tuple[ExposedExemplar, int]:
        """What is behind `# {`, to the end of the line. Its values have no escapes, as upstream."""
        pairs: list[tuple[str, str]] = []
        _, at = self._labels("exemplar", at, pairs, escapes=False)
        rest = _EXEMPLAR_END.match(self._body, at)
        if rest is None:
            raise InvalidExposition("behind an exemplar's labels there is no value")
        if len(dict(pairs)) < len(pairs):
            raise InvalidExposition("a label of an exemplar comes twice")
        ts_ms = None if rest[2] is None else _ms(rest[2])
        return ExposedExemplar(sorted(pairs), number(rest[1]), ts_ms), rest.end()


def _with_starts(entries: list[tuple[_Entry, str, str]]) -> list[ExposedSample]:
    """The samples, those of counters and the like with their starts. The next line of a family that
    says when something was created is for the samples before it that have its labels, as upstream.
    """
    found: list[ExposedSample] = []
    following: _Created | None = None
    for entry, family, name in reversed(entries):
        if entry is None or not family or not name.startswith(family):
            following = None
        if isinstance(entry, _Created):
            following = entry
        elif isinstance(entry, ExposedSample):
            has_start = following is not None and _identity(entry.labels) == following.identity
            found.append(_started(entry, following) if following and has_start else entry)
    found.reverse()
    return found


def _started(sample: ExposedSample, created: _Created) -> ExposedSample:
    return sample._replace(start_ms=created.start_ms)


def _identity(labels: Labels) -> Labels:
    """The labels that a series shares with the others of its metric."""
    return [pair for pair in labels if pair[0] not in ("__name__", "le", "quantile")]


def _ms(seconds: bytes) -> int:
    """A time in ms. Raises InvalidExposition."""
    found = number(seconds)
    if not math.isfinite(found):
        raise InvalidExposition("a time is a finite number")
    if abs(found) >= _MOST_S:
        return -(1 << 63)  # as Go's conversion does on x86
    return int(found * 1000)
