"""Takes JSON text apart into the objects of a message, whether or not all of it is JSON.

A message is objects and arrays of objects, one after the other, with blanks, line ends or commas
between them. An object ends where its bracket does, so one that is broken inside costs its
neighbours nothing; one that never ends, or that ends in another one because a quote is missing, is
cut where the next one begins. Takes linear time and memory, whatever the bytes.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

BLANK = b" \t\r\n"
GAP = BLANK + b","
"""What may be between objects."""
_OPEN = re.compile(rb"[\[ \t\r\n,]++")
# Strings are matched as a whole, so that nothing in them counts. A string ends with its line at the
# latest: JSON escapes line ends in strings.
_STRING = rb'"(?:[^"\\\n]++|\\[^\n])*+"?'
_BRACKET = re.compile(_STRING + rb"|[\[\]{}]")
_COMMA = re.compile(_STRING + rb"|,")
# Most objects are matched at once: those with at most objects of plain values within, like tags.
_PLAIN = rb'[^{}\[\]"]++|' + _STRING
_OBJECT_OF_TWO_LEVELS = re.compile(rb"\{(?:" + _PLAIN + rb"|\{(?:" + _PLAIN + rb")*+\})*+\}")
# An object begins with a bracket, a name and a colon. A string can hold that only where a quote is
# missing, or ends just behind a bracket, as in ["{"], ":".
_OBJECT = re.compile(rb'\{[ \t\r\n]*+"(?:[^"\\\n]++|\\[^\n])*+"[ \t\r\n]*+:')
# How many times the length of the text may be read for the ends of values that have none. Beyond
# it arrays are not looked for, and objects end where the next one begins at the latest.
_PATIENCE = 2


class Part(NamedTuple):
    """A piece of a message. problem: why it is no object; None if it looks like one."""

    text: bytes
    problem: str | None = None


def parts(text: bytes) -> Iterator[Part]:
    """The objects of a message as they were written, and what is between them but should not be."""
    return _Splitter(text).parts()


class _Splitter:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._patience = _PATIENCE * len(text)
        self._objects = array("q")
        """Where objects begin that are no value of another one, then the end of the text."""
        for found in _OBJECT.finditer(text):
            if _before(text, found.start()) != b":":
                self._objects.append(found.start())
        self._objects.append(len(text))

    def parts(self) -> Iterator[Part]:
        text, at = self._text, 0
        in_open_array = False
        while True:
            begin = self._opening(at)
            between = text[at:begin].strip(GAP)
            if in_open_array and between.startswith(b"]"):
                between, in_open_array = between[1:].strip(GAP), False
            if between:
                yield from _lines(between)
            if begin == len(text):
                break
            end = self._end(begin, len(text))
            if text[begin : begin + 1] == b"{":
                yield self._part(begin, end)
                at = abs(end)
                # The end of the text ends both.
                in_open_array &= at < len(text) or end > 0
            elif end > 0:
                yield from self._elements(begin + 1, end - 1)
                at = end
            else:
                # The objects of an array that does not end are taken one by one.
                in_open_array, at = True, _OPEN.match(text, begin).end()  # type: ignore[union-attr]
        if in_open_array and not between:
            yield Part(b"[", "the array does not end")

    def _elements(self, at: int, end: int) -> Iterator[Part]:
        """The elements of an array between its brackets, which are at - 1 and end, and those of
        arrays in it.
        """
        around: list[int] = []
        behind = False
        while True:
            begin = min(self._opening(at), end)
            yield from self._between(at, begin, behind=behind, before=begin < end)
            if begin == end:
                if not around:
                    return
                at, end, behind = end + 1, around.pop(), True
                continue
            stop = self._end(begin, end)
            if stop > 0 and self._text[begin : begin + 1] == b"[":
                # Each of the arrays around it was looked through before.
                self._patience -= stop - begin
                around.append(end)
                at, end, behind = begin + 1, stop - 1, False
                continue
            yield self._part(begin, stop)
            at, behind = abs(stop), True

    def _between(self, begin: int, end: int, *, behind: bool, before: bool) -> Iterator[Part]:
        """Elements of an array that have no brackets, or are missing. behind, before: whether the
        text follows an element with brackets, and whether one follows it.
        """
        text = self._text
        if text[begin:end].strip(BLANK) == (b"," if behind and before else b""):
            return
        commas = [c.start() for c in _COMMA.finditer(text, begin, end) if c[0] == b","]
        starts, stops = [begin, *(comma + 1 for comma in commas)], [*commas, end]
        is_missing = False
        for n, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            if element := text[start:stop].strip(BLANK):
                yield Part(element, "not an object")
            else:
                is_beside = (n == 0 and behind) or (n == len(commas) and before)
                is_missing |= not is_beside
        if is_missing:
            yield Part(b"", "an element is missing")

    def _part(self, begin: int, end: int) -> Part:
        """A value with brackets; end: as of `_end`."""
        if end > 0:
            return Part(self._text[begin:end])
        return Part(self._text[begin:-end].strip(GAP), "it does not end")

    def _opening(self, at: int) -> int:
        """Where the next opening bracket is, outside of strings, or the end of the text."""
        text = self._text
        opening = b"{[" if self._patience > 0 else b"{"
        if at < len(text) and text[at] in opening:
            return at
        for token in _BRACKET.finditer(text, at):
            if token[0] in opening:
                return token.start()
        return len(text)

    def _end(self, begin: int, limit: int) -> int:
        """Where the value ends, exclusive, whose bracket is at `begin`. If it does not end before
        the limit: where the next object begins, or the limit, as a negative number.
        """
        text, objects = self._text, self._objects
        number = bisect_right(objects, begin)
        resume = min(objects[number], limit)
        found = _OBJECT_OF_TWO_LEVELS.match(text, begin, limit)
        if found is not None and found.end() <= resume:
            return found.end()
        if self._patience <= 0:
            limit = resume
        still_open, at = bytearray(), begin
        holds_object = False
        for token in _BRACKET.finditer(text, begin, limit):
            at = token.end()
            while objects[number] < token.start():
                number += 1
            if token.start() < objects[number] < at:
                # Most likely the quote is missing that ends the string before.
                holds_object = True
            match bracket := token[0]:
                case b"{" | b"[":
                    still_open += bracket
                case b"}" | b"]":
                    opened = still_open.rfind(b"{" if bracket == b"}" else b"[")
                    if opened >= 0:
                        del still_open[opened:]
                        if not still_open:
                            if holds_object and not _is_json(text[begin:at]):
                                break
                            return at
                    elif bracket == b"]":
                        # The array ends that the value is in.
                        break
        self._patience -= at - begin
        return -resume


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _lines(between: bytes) -> Iterator[Part]:
    for line in between.split(b"\n"):
        if stripped := line.strip(GAP):
            yield Part(stripped, "not an object")


def _before(text: bytes, at: int) -> bytes:
    """The last byte before a place that is no blank."""
    while at > 0 and text[at - 1] in BLANK:
        at -= 1
    return text[at - 1 : at]
