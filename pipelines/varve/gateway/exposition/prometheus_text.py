"""Prometheus' text format, 0.0.4 and 1.0.0.

Source: Prometheus, "Exposition formats", and model/textparse/promparse.go, promlex.l.
"""

from __future__ import annotations

import re

from varve.gateway.exposition.lines import (
    LABEL_NAME,
    METRIC_NAME,
    NOTHING_READ,
    QUOTED,
    LineRead,
    LineReader,
    at_line,
    bound_of,
    family_of,
    name_of,
    unescaped,
    unescaped_help,
    utf8,
)
from varve.gateway.exposition.samples import (
    ExposedSample,
    Exposition,
    InvalidExposition,
    Said,
    bound_label,
    labels_of,
    number,
)

_SPACE = re.compile(rb"[ \t]*")
_NAME = re.compile(METRIC_NAME)
_REST_OF_LINE = re.compile(rb"[^\n]*")
_META = re.compile(rb"#[ \t]+(HELP|TYPE)[ \t]+")
_META_NAME = re.compile(rb"(%s|%s)([^\n]*)" % (QUOTED, METRIC_NAME), re.DOTALL)
_LABEL = re.compile(rb"[ \t]*(%s|%s)[ \t]*" % (LABEL_NAME, QUOTED), re.DOTALL)
_VALUE = re.compile(rb"=[ \t]*(%s)[ \t]*" % QUOTED, re.DOTALL)
_SAMPLE_END = re.compile(rb"[ \t]*([^{ \t\n]+)[ \t]*(?:([0-9]+)[ \t]*)?\n")
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
_LATEST_MS = (1 << 63) - 1


def parse_prometheus_text(content: bytes) -> Exposition:
    """The samples of a body. Raises InvalidExposition."""
    reader, at = TextReader(content), 0
    found = Exposition()
    while at < len(reader.body):
        try:
            at = reader.read_line(at)
        except InvalidExposition as bad:
            raise at_line(reader.body, at, bad, found.samples) from None
        sample, said = reader.last.sample, reader.last.said
        if sample is not None:
            found.samples.append(sample)
        if said is not None:
            found.describe(said)
    return found


class TextReader(LineReader):
    """Reads a body line by line."""

    def read_line(self, at: int) -> int:
        """Reads what begins at `at`, usually a line; returns where the next one begins. Raises
        InvalidExposition.
        """
        body = self.body
        self.last = NOTHING_READ
        at = self._after_space(at)
        sign = body[at : at + 1]
        if sign == b"\n":
            return at + 1
        if sign == b"\0":  # upstream's end of text
            return len(body)
        if sign == b"#":
            return self._comment(at)
        return self._series(at)

    def _comment(self, at: int) -> int:
        body = self.body
        meta = _META.match(body, at)
        if meta is None:
            return body.find(b"\n", at) + 1
        rest = _META_NAME.match(body, meta.end())
        if rest is None:
            raise InvalidExposition(f"{meta[1].decode()} wants a metric name")
        name, text = name_of(rest[1]), rest[2]
        if not text:
            raise InvalidExposition(f"{meta[1].decode()} says nothing of {name}")
        said = utf8(text[1:])
        if meta[1] == b"HELP":
            self.last = LineRead(None, said=Said(name, text=unescaped_help(said)))
        else:
            if said not in _TYPES:
                raise InvalidExposition(f"there is no type {said[:60]!r}")
            self.kind = "unknown" if said == "untyped" else said
            self.family = name
            self.last = LineRead(None, said=Said(name, kind=self.kind))
        return rest.end() + 1

    def _series(self, begin: int) -> int:
        body, at = self.body, begin
        name = ""
        pairs: list[tuple[str, str]] = []
        named = _NAME.match(body, at)
        if named is not None:
            name, at = named[0].decode("ascii"), self._after_space(named.end())
        if body[at : at + 1] == b"{":
            name, at = self._labels(name, at + 1, pairs)
        elif named is None:
            raise InvalidExposition("this is neither a comment nor a sample")
        rest = _SAMPLE_END.match(body, at)
        if rest is None:
            raise InvalidExposition("behind the series there is no value, or more than a time")
        family = family_of(name, self.family)
        bound = bound_of(self.kind)
        if bound:
            pairs = [(n, bound_label(v)) if n == bound else (n, v) for n, v in pairs]
        labels = labels_of(name, pairs)
        ts_ms = None if rest[2] is None else int(rest[2])
        if ts_ms is not None and ts_ms > _LATEST_MS:
            raise InvalidExposition(f"the time {ts_ms} is too large")
        text = body[begin:at]
        series = b"" if b"\n" in text else text.rstrip(b" \t")
        self.last = LineRead(ExposedSample(labels, number(rest[1]), ts_ms, family=family), series)
        return rest.end()

    def _labels(self, name: str, at: int, pairs: list[tuple[str, str]]) -> tuple[str, int]:
        """The metric's name, which may be among the labels, and where the braces end."""
        body = self.body
        while True:
            at = self._after_space(at)
            if body[at : at + 1] == b"}":
                return name, at + 1
            label = _LABEL.match(body, at)
            if label is None:
                raise InvalidExposition("there is no label name where one must be")
            at = label.end()
            sign = body[at : at + 1]
            if sign in (b",", b"}") and sign:
                if name or label[1][:1] != b'"':
                    raise InvalidExposition(f"the label {name_of(label[1])} has no value")
                name = name_of(label[1])
                if not name:
                    raise InvalidExposition("the metric name is empty")
                at += sign == b","
                continue
            value = _VALUE.match(body, at)
            if value is None:
                raise InvalidExposition(f"the label {name_of(label[1])} has no value in quotes")
            pairs.append((name_of(label[1]), unescaped(utf8(value[1][1:-1]))))
            at = value.end()
            if body[at : at + 1] == b",":
                at += 1

    def _after_space(self, at: int) -> int:
        found = _SPACE.match(self.body, at)
        return found.end() if found else at
