"""OpenMetrics' text format, 0.0.1 and 1.0.0.

Source: OpenMetrics 1.0; Prometheus, model/textparse/openmetricsparse.go, openmetricslex.l.
"""

from __future__ import annotations

import math
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
    utf8,
)
from varve.gateway.exposition.samples import (
    ExposedExemplar,
    ExposedSample,
    Exposition,
    InvalidExposition,
    Said,
    bound_label,
    labels_of,
    number,
)
from varve.gateway.write_request import Labels
from varve.promql.histograms.native_histogram import FloatHistogram

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
_EOF = b"# EOF\n"
_MOST_S = 9.2e15


def parse_open_metrics(content: bytes) -> Exposition:
    """The samples of a body; when a counter, histogram or summary was created is the start of its
    samples. Raises InvalidExposition.
    """
    reader, at = OpenMetricsReader(content), 0
    read: list[LineRead] = []
    while not reader.is_end(at):
        try:
            at = reader.read_line(at)
        except InvalidExposition as bad:
            before = [line.sample for line in read if line.sample and not line.is_created]
            raise at_line(reader.body, at, bad, before) from None
        read.append(reader.last)
    found = Exposition(_with_starts(read))
    for line in read:
        if line.said is not None:
            found.describe(line.said)
    return found


class OpenMetricsReader(LineReader):
    """Reads a body line by line."""

    def is_end(self, at: int) -> bool:
        """Whether `# EOF` is here, and nothing behind it."""
        return at == len(self.body) - len(_EOF) and self.body.endswith(_EOF)

    def read_line(self, at: int) -> int:
        """Reads the line that begins at `at`; returns where the next one begins. Raises
        InvalidExposition.
        """
        body = self.body
        if at >= len(body) or body == b"\n":
            raise InvalidExposition("the body does not end with # EOF")
        if body.startswith(_EOF, at):
            raise InvalidExposition("there is something behind # EOF")
        if body.startswith(b"#", at):
            return self._metadata(at)
        return self._series(at)

    def _metadata(self, at: int) -> int:
        self.last = NOTHING_READ
        meta = _META.match(self.body, at)
        if meta is None:
            raise InvalidExposition("a comment is HELP, TYPE or UNIT, a name and what it is")
        what, name, text = meta[1], name_of(meta[2]), utf8(meta[3][1:])
        if what == b"HELP":
            self.last = LineRead(None, said=Said(name, text=unescaped(text)))
        elif what == b"TYPE":
            if text not in _TYPES:
                raise InvalidExposition(f"there is no type {text[:60]!r}")
            self.kind, self.family = text, name
            self.last = LineRead(None, said=Said(name, kind=text))
        else:
            if text and not name.endswith(f"_{text}"):
                raise InvalidExposition(f"the unit {text[:60]!r} is no suffix of {name}")
            self.last = LineRead(None, said=Said(name, unit=text))
        return meta.end()

    def _series(self, at: int) -> int:
        body, begin = self.body, at
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
        bound = bound_of(self.kind)
        if bound:
            pairs = [(n, bound_label(v)) if n == bound else (n, v) for n, v in pairs]
        sample = ExposedSample(
            labels_of(name, pairs), value, ts_ms, 0, exemplars, family_of(name, self.family)
        )
        has_start = self.kind in _WITH_START
        may_start = has_start and bool(self.family) and name.startswith(self.family)
        is_created = has_start and name.endswith(_CREATED)
        self.last = LineRead(sample, body[begin : rest.start()], is_created, may_start)
        return at

    def _labels(
        self, name: str, at: int, pairs: list[tuple[str, str]], *, escapes: bool
    ) -> tuple[str, int]:
        """The metric's name, which may be among the labels, and where the braces end."""
        body = self.body
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
        rest = _EXEMPLAR_END.match(self.body, at)
        if rest is None:
            raise InvalidExposition("behind an exemplar's labels there is no value")
        if len(dict(pairs)) < len(pairs):
            raise InvalidExposition("a label of an exemplar comes twice")
        ts_ms = None if rest[2] is None else _ms(rest[2])
        return ExposedExemplar(sorted(pairs), number(rest[1]), ts_ms), rest.end()


def _with_starts(read: list[LineRead]) -> list[ExposedSample]:
    """The samples, those of counters and the like with their starts. The next line of a family that
    says when something was created is for the samples before it that have its labels, as upstream.
    """
    found: list[ExposedSample] = []
    created: ExposedSample | None = None
    for line in reversed(read):
        sample = line.sample
        if not line.may_start:
            created = None
        if sample is None:
            continue
        if line.is_created:
            created = sample
            continue
        if created is not None and identity_of(sample.labels) == identity_of(created.labels):
            sample = sample._replace(start_ms=created_ms(created.value))
        found.append(sample)
    found.reverse()
    return found


def created_ms(value: float | FloatHistogram) -> int:
    """When something was created, which is in s; 0 for what is no time."""
    ms = value * 1000 if isinstance(value, float) else math.nan
    return int(ms) if abs(ms) < _MOST_S * 1000 else 0


def identity_of(labels: Labels) -> Labels:
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
