"""Puts an HTML document together, each value escaped for the place it has got to.

Go's html/template finds the contexts of all values before it runs, so it has to refuse a template
whose branches end in different ones. Here the context is followed along what is written: the same
result for what Go accepts, and a safe one for the rest. Source: Go, html/template, escape.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from varve.templates.budget import Budget
from varve.templates.builtins import escape_html
from varve.templates.errors import FunctionError
from varve.templates.html import escapers
from varve.templates.html.context import (
    COMMENTS,
    JS_LITERALS,
    AttributeKind,
    Context,
    Delimiter,
    State,
    UrlPart,
)
from varve.templates.html.transitions import after_text
from varve.templates.values import EscapedHtml, SafeUrl

_REMEMBERED: Final = 1024
_CSS_STRINGS: Final = (State.CSS_DOUBLE, State.CSS_SINGLE)
_URLS: Final = frozenset(
    [State.URL, *_CSS_STRINGS, State.CSS_DOUBLE_URL, State.CSS_SINGLE_URL, State.CSS_URL]
)

Escaper = Callable[[Any, Budget], Any]

_BY_STATE: Final[Mapping[State, Escaper]] = {
    State.TEXT: escapers.text,
    State.RCDATA: escapers.rcdata,
    State.ATTRIBUTE_NAME: escapers.attribute_name,
    State.SRCSET: escapers.srcset,
    State.JS: escapers.js_value,
    State.JS_DOUBLE: escapers.js_string,
    State.JS_SINGLE: escapers.js_string,
    State.JS_TEMPLATE: escapers.js_template,
    State.JS_REGEXP: escapers.js_regexp,
    State.CSS: escapers.css_value,
}


class HtmlOutput:
    """The document so far, and the context at its end."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._context = Context()
        self._parts: list[str] = []
        self._read: dict[tuple[Context, str], tuple[str, Context]] = {}

    def text(self, text: str) -> None:
        key = self._context, text
        known = self._read.get(key)
        if known is None:
            known = _read(self._context, text)
            if len(self._read) < _REMEMBERED:
                self._read[key] = known
        shown, self._context = known
        self._write(shown)

    def value(self, value: Any) -> None:
        context = self._context = _nudged(self._context)
        self._write(str(_escaped(context, value, self._budget)))
        if context.state is State.JS:
            self._context = replace(context, slash_divides=True)

    def _write(self, text: str) -> None:
        self._budget.made(len(text))
        self._parts.append(text)

    def finished(self) -> str:
        """The document. Raises FunctionError if it ends within a tag or the like."""
        if self._context.state is not State.TEXT:
            where = self._context.state.name.lower().replace("_", " ")
            raise FunctionError(f"the HTML ends in a context that is not text: {where}")
        return "".join(self._parts)


def _nudged(context: Context) -> Context:
    """A value in a tag is the name of an attribute; one behind = is its value, without quotes."""
    if context.state is State.TAG:
        return replace(context, state=State.ATTRIBUTE_NAME)
    if context.state is State.AFTER_NAME:
        return replace(context, state=State.ATTRIBUTE_NAME, kind=AttributeKind.PLAIN)
    if context.state is State.BEFORE_VALUE:
        return replace(
            context,
            state=context.kind.value,
            delimiter=Delimiter.SPACE,
            kind=AttributeKind.PLAIN,
        )
    return context


def _escaped(context: Context, value: Any, budget: Budget) -> Any:
    state = context.state
    if state in COMMENTS:
        return ""
    if isinstance(value, EscapedHtml):
        if context.delimiter in (Delimiter.DOUBLE, Delimiter.SINGLE):
            return escape_html(str(_by_state(context, value.raw, budget)))
        if state in (State.TEXT, State.RCDATA):
            return value
    value = _by_state(context, value, budget)
    if context.delimiter is Delimiter.NONE:
        return value
    if context.delimiter is Delimiter.SPACE:
        return escapers.unquoted_attribute(value, budget)
    return escapers.attribute(value, budget)


def _by_state(context: Context, value: Any, budget: Budget) -> Any:
    """The value as the language at its place has it, not escaped for an attribute around it."""
    state = context.state
    if state in _URLS:
        return _in_url(context, value, budget)
    return _BY_STATE[state](value, budget) if state in _BY_STATE else value


def _in_url(context: Context, value: Any, budget: Budget) -> str:
    if context.url_part is UrlPart.QUERY:
        return escapers.query_part(value, budget)
    if context.url_part is UrlPart.NONE:
        value = escapers.safe_scheme(value, budget)
    if context.state in _CSS_STRINGS:
        return escapers.css_string(value, budget)
    return escapers.normal_url(SafeUrl(escapers.plain(value, budget)), budget)


def _read(context: Context, text: str) -> tuple[str, Context]:
    """A text of the template as it is written, and the context behind it.

    Comments go, and a < that begins no tag is escaped.
    """
    parts: list[str] = []
    at = written = 0
    while at < len(text):
        after, read = after_text(context, text[at:])
        end = at + read
        if context.state in (State.TEXT, State.RCDATA):
            stop = end
            if after.state is not context.state:
                start = text.rfind("<", at, end)
                stop = end if start < 0 else start
            parts.append(text[written:at] + _without_stray_tags(text[at:stop]))
            written = stop
        elif context.state in COMMENTS and context.delimiter is Delimiter.NONE:
            if context.state is State.JS_BLOCK_COMMENT:
                parts.append("\n" if any(c in "\n\r" for c in text[written:end]) else " ")
            elif context.state is State.CSS_BLOCK_COMMENT:
                parts.append(" ")
            written = end
        elif context.state in JS_LITERALS and "<" in text[at:end]:
            parts.append(text[written:at] + _without_script_tags(text[at:end]))
            written = end
        if (
            after.state is not context.state
            and after.state in COMMENTS
            and after.delimiter is Delimiter.NONE
        ):
            parts.append(text[written : end - _opening(text[at:end])])
            written = end
        context, at = after, end
    if context.state not in COMMENTS or context.delimiter is not Delimiter.NONE:
        parts.append(text[written:])
    return "".join(parts), context


def _opening(text: str) -> int:
    """How long the opening of a comment is that a text ends with."""
    return next(len(mark) for mark in ("<!--", "-->", "/*", "//", "#!") if text.endswith(mark))


def _without_stray_tags(text: str) -> str:
    head, *rest = text.split("<")
    return head + "".join(
        ("<" if part[:8].upper() == "!DOCTYPE" else "&lt;") + part for part in rest
    )


def _without_script_tags(text: str) -> str:
    for mark in ("script", "/script", "!--"):
        at = 0
        while (at := text.lower().find("<" + mark, at)) >= 0:
            text = text[:at] + "\\x3C" + text[at + 1 :]
    return text
