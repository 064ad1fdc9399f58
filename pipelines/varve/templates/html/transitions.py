"""How text moves the context on. Source: Go, html/template, transition.go, js.go."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from varve.templates.errors import FunctionError
from varve.templates.html.context import (
    COMMENTS,
    CONTENT,
    JS_LITERALS,
    AttributeKind,
    Context,
    Delimiter,
    Element,
    State,
    UrlPart,
    attribute_kind,
)

Step = tuple[Context, int]
"""The context after some text, and how much of it was read."""

_TAG_START = re.compile(r"<!--|<(/?)([a-zA-Z][a-zA-Z0-9]*(?:[:-][a-zA-Z0-9]+)*)")
_SPACES = re.compile(r"[ \t\n\f\r]*")
_ATTRIBUTE_NAME = re.compile(r"[^ \t\n\f\r=>'\"<]*")
_JS_MARK = re.compile(r"[\"`'/{}<\-#]")
_LINE_END = re.compile("[\n\r\u2028\u2029]")
_CSS_MARK = re.compile(r"[(\"'/]")
_URL_WORD = re.compile(r"(?:^|[^\w\-\\])url[\t\n\f\r ]*$", re.IGNORECASE)
_JS_SPACES: Final = "\t\n\f\r \u2028\u2029"
_OPERATORS: Final = frozenset(",<>=*%&|^?!~([:;{}")
_KEYWORDS: Final = frozenset(
    [
        "break",
        "case",
        "continue",
        "delete",
        "do",
        "else",
        "finally",
        "in",
        "instanceof",
        "return",
        "throw",
        "try",
        "typeof",
        "void",
    ]
)
_JS_TYPE = re.compile(
    r"application/(?:(?:x-)?(?:ecma|java)script|json|ld\+json)|module"
    r"|text/(?:(?:x-)?(?:ecma|java)script|javascript1\.[0-5]|jscript|livescript)"
)
_JS_ENDS: Final = {
    State.JS_DOUBLE: re.compile(r'[\\"]'),
    State.JS_SINGLE: re.compile(r"[\\']"),
    State.JS_REGEXP: re.compile(r"[\\/\[\]]"),
}
_CSS_ENDS: Final = {
    State.CSS_DOUBLE: re.compile(r'[\\"]'),
    State.CSS_SINGLE: re.compile(r"[\\']"),
    State.CSS_DOUBLE_URL: re.compile(r'[\\"]'),
    State.CSS_SINGLE_URL: re.compile(r"[\\']"),
    State.CSS_URL: re.compile(r"[\\\t\n\f\r )]"),
}


def after_text(context: Context, text: str) -> Step:
    """Reads as much of a text as is of one kind, at least a character. Raises FunctionError."""
    if context.delimiter is Delimiter.NONE:
        return _outside_attributes(context, text)
    return _in_attribute(context, text)


def _outside_attributes(context: Context, text: str) -> Step:
    end = len(text)
    if context.element is not Element.NONE and context.state not in (
        State.TAG,
        State.ATTRIBUTE_NAME,
        State.AFTER_NAME,
        State.BEFORE_VALUE,
    ):
        in_script_text = context.element is Element.SCRIPT and (
            context.state in JS_LITERALS or context.state in COMMENTS
        )
        if not in_script_text:
            end = _special_end(context.element, text)
            if end == 0:
                return Context(), 0
    return _TRANSITIONS[context.state](context, text[:end])


def _special_end(element: Element, text: str) -> int:
    """Where the end tag of an element begins whose content is no HTML."""
    match = re.search(rf"</{element.value}(?=[> \t\n\f\r/]|\Z)", text, re.IGNORECASE)
    return len(text) if match is None else match.start()


def _in_attribute(context: Context, text: str) -> Step:
    ends = context.delimiter.value
    end = next((i for i, char in enumerate(text) if char in ends), len(text))
    if context.delimiter is Delimiter.SPACE:
        bad = re.search("[\"'<=`]", text[:end])
        if bad:
            raise FunctionError(f"{bad[0]!r} in an attribute without quotes: {text[:end][:50]!r}")
    if end == len(text):
        value = html.unescape(text)
        while value:
            context, read = _TRANSITIONS[context.state](context, value)
            value = value[read:]
        return context, end
    element = context.element
    if context.is_script_type and not _JS_TYPE.fullmatch(
        text[:end].partition(";")[0].strip().lower()
    ):
        element = Element.NONE
    if context.delimiter is not Delimiter.SPACE:
        end += 1
    return Context(State.TAG, element=element), end


def _spaces(text: str, at: int = 0) -> int:
    match = _SPACES.match(text, at)
    return match.end() if match else at


def _text(context: Context, text: str) -> Step:
    match = _TAG_START.search(text)
    if match is None:
        return context, len(text)
    if match[2] is None:
        return Context(State.COMMENT), match.end()
    element = Element.NONE
    if not match[1]:
        element = _ELEMENTS.get(match[2].lower(), Element.NONE)
    return Context(State.TAG, element=element), match.end()


_ELEMENTS: Final = {element.value: element for element in Element if element.value}


def _tag(context: Context, text: str) -> Step:
    start = _spaces(text)
    if start == len(text):
        return context, start
    if text[start] == ">":
        return Context(CONTENT[context.element], element=context.element), start + 1
    end = _name_end(text, start)
    if end == start:
        raise FunctionError(
            f"expected space, attribute name or end of tag, but got {text[start:][:20]!r}"
        )
    name = text[start:end].lower()
    is_script_type = context.element is Element.SCRIPT and name == "type"
    kind = AttributeKind.PLAIN if is_script_type else attribute_kind(name)
    state = State.ATTRIBUTE_NAME if end == len(text) else State.AFTER_NAME
    return Context(state, element=context.element, kind=kind, is_script_type=is_script_type), end


def _name_end(text: str, start: int) -> int:
    match = _ATTRIBUTE_NAME.match(text, start)
    end = match.end() if match else start
    if end < len(text) and text[end] in "'\"<":
        raise FunctionError(f"{text[end]!r} in the name of an attribute: {text[start:][:32]!r}")
    return end


def _attribute_name(context: Context, text: str) -> Step:
    end = _name_end(text, 0)
    return (context if end == len(text) else replace(context, state=State.AFTER_NAME)), end


def _after_name(context: Context, text: str) -> Step:
    start = _spaces(text)
    if start == len(text):
        return context, start
    if text[start] != "=":
        return replace(context, state=State.TAG), start
    return replace(context, state=State.BEFORE_VALUE), start + 1


def _before_value(context: Context, text: str) -> Step:
    start = _spaces(text)
    if start == len(text):
        return context, start
    delimiter = {'"': Delimiter.DOUBLE, "'": Delimiter.SINGLE}.get(text[start], Delimiter.SPACE)
    if delimiter is not Delimiter.SPACE:
        start += 1
    return replace(context, state=context.kind.value, delimiter=delimiter), start


def _comment(context: Context, text: str) -> Step:
    end = text.find("-->")
    return (context, len(text)) if end < 0 else (Context(), end + 3)


def _whole(context: Context, text: str) -> Step:
    return context, len(text)


def _url(context: Context, text: str) -> Step:
    if "?" in text or "#" in text:
        return replace(context, url_part=UrlPart.QUERY), len(text)
    if context.url_part is UrlPart.NONE and _spaces(text) != len(text):
        return replace(context, url_part=UrlPart.BEFORE_QUERY), len(text)
    return context, len(text)


# JavaScript


def _js(context: Context, text: str) -> Step:
    match = _JS_MARK.search(text)
    if match is None:
        return replace(context, slash_divides=_divides(text, context.slash_divides)), len(text)
    at, mark = match.start(), match[0]
    divides = _divides(text[:at], context.slash_divides)
    state = {'"': State.JS_DOUBLE, "'": State.JS_SINGLE, "`": State.JS_TEMPLATE}.get(mark)
    if state is not None:
        return replace(context, state=state, slash_divides=False), at + 1
    two = text[at : at + 2]
    if mark == "/":
        if two in ("//", "/*"):
            kind = State.JS_LINE_COMMENT if two == "//" else State.JS_BLOCK_COMMENT
            return replace(context, state=kind, slash_divides=divides), at + 2
        if divides:
            return replace(context, slash_divides=False), at + 1
        return replace(context, state=State.JS_REGEXP, slash_divides=False), at + 1
    if text.startswith("<!--", at):
        return replace(context, state=State.JS_LINE_COMMENT, slash_divides=divides), at + 4
    if text.startswith("-->", at):
        return replace(context, state=State.JS_LINE_COMMENT, slash_divides=divides), at + 3
    if two == "#!":
        return replace(context, state=State.JS_LINE_COMMENT, slash_divides=divides), at + 2
    if mark in "{}" and context.braces:
        return _brace(context, mark, at)
    return replace(context, slash_divides=_divides(text[: at + 1], divides)), at + 1


def _brace(context: Context, mark: str, at: int) -> Step:
    *outer, depth = context.braces
    if mark == "{":
        return replace(context, slash_divides=False, braces=(*outer, depth + 1)), at + 1
    if depth == 0:
        return replace(context, state=State.JS_TEMPLATE, braces=tuple(outer)), at + 1
    return replace(context, slash_divides=False, braces=(*outer, depth - 1)), at + 1


def _divides(text: str, before: bool) -> bool:  # noqa: FBT001
    """Whether a slash behind `text` is a division."""
    text = text.rstrip(_JS_SPACES)
    if not text:
        return before
    last = text[-1]
    if last in "+-":
        return (len(text) - len(text.rstrip(last))) % 2 == 0
    if last == ".":
        return len(text) > 1 and text[-2].isdigit()
    if last in _OPERATORS:
        return False
    word = re.search(r"[\w$]+$", text)
    return word is None or word[0] not in _KEYWORDS


def _js_literal(context: Context, text: str) -> Step:
    at, in_set = 0, False
    pattern = _JS_ENDS[context.state]
    while match := pattern.search(text, at):
        at = match.end()
        if match[0] == "\\":
            if at == len(text):
                raise FunctionError(f"unfinished escape in JavaScript: {text[-20:]!r}")
            at += 1
        elif match[0] in "[]":
            in_set = match[0] == "["
        elif match[0] == "/" and text[max(0, at - 2) : at + 6].lower() == "</script":
            continue
        elif not in_set:
            return replace(context, state=State.JS, slash_divides=True), at
    if in_set:
        raise FunctionError(f"unfinished set in a regular expression: {text[-20:]!r}")
    return context, len(text)


def _js_template(context: Context, text: str) -> Step:
    at = 0
    while match := re.compile(r"\\|`|\$\{").search(text, at):
        at = match.end()
        if match[0] == "\\":
            if at == len(text):
                raise FunctionError(f"unfinished escape in JavaScript: {text[-20:]!r}")
            at += 1
        elif match[0] == "`":
            return replace(context, state=State.JS, slash_divides=True), at
        else:
            braces = (*context.braces, 0)
            return replace(context, state=State.JS, slash_divides=False, braces=braces), at
    return context, len(text)


def _block_comment(context: Context, text: str) -> Step:
    end = text.find("*/")
    if end < 0:
        return context, len(text)
    state = State.JS if context.state is State.JS_BLOCK_COMMENT else State.CSS
    return replace(context, state=state), end + 2


def _line_comment(context: Context, text: str) -> Step:
    match = _LINE_END.search(text)
    if match is None:
        return context, len(text)
    state = State.JS if context.state is State.JS_LINE_COMMENT else State.CSS
    return replace(context, state=state), match.start()


# CSS


def _css(context: Context, text: str) -> Step:
    at = 0
    while match := _CSS_MARK.search(text, at):
        start, at = match.start(), match.end()
        mark = match[0]
        if mark == "(" and _URL_WORD.search(text[:start]):
            at = _spaces(text, at)
            state = {'"': State.CSS_DOUBLE_URL, "'": State.CSS_SINGLE_URL}.get(text[at : at + 1])
            if state is not None:
                return replace(context, state=state, url_part=UrlPart.NONE), at + 1
            return replace(context, state=State.CSS_URL, url_part=UrlPart.NONE), at
        if mark == "/" and text[at : at + 1] in ("/", "*"):
            comment = text[at] == "/"
            kind = State.CSS_LINE_COMMENT if comment else State.CSS_BLOCK_COMMENT
            return replace(context, state=kind), at + 1
        if mark in "'\"":
            state = State.CSS_DOUBLE if mark == '"' else State.CSS_SINGLE
            return replace(context, state=state, url_part=UrlPart.NONE), at
    return context, len(text)


def _css_string(context: Context, text: str) -> Step:
    at, pattern = 0, _CSS_ENDS[context.state]
    while match := pattern.search(text, at):
        at = match.end()
        if match[0] != "\\":
            return replace(context, state=State.CSS), at
        if at == len(text):
            raise FunctionError(f"unfinished escape in CSS: {text[-20:]!r}")
        at += 1
        context, _ = _url(context, text[:at])
    return _url(context, text[at:])[0], len(text)


_TRANSITIONS: Final[Mapping[State, Callable[[Context, str], Step]]] = {
    State.TEXT: _text,
    State.TAG: _tag,
    State.ATTRIBUTE_NAME: _attribute_name,
    State.AFTER_NAME: _after_name,
    State.BEFORE_VALUE: _before_value,
    State.COMMENT: _comment,
    State.RCDATA: _whole,
    State.ATTRIBUTE: _whole,
    State.URL: _url,
    State.SRCSET: _url,
    State.JS: _js,
    State.JS_DOUBLE: _js_literal,
    State.JS_SINGLE: _js_literal,
    State.JS_TEMPLATE: _js_template,
    State.JS_REGEXP: _js_literal,
    State.JS_BLOCK_COMMENT: _block_comment,
    State.JS_LINE_COMMENT: _line_comment,
    State.CSS: _css,
    State.CSS_DOUBLE: _css_string,
    State.CSS_SINGLE: _css_string,
    State.CSS_DOUBLE_URL: _css_string,
    State.CSS_SINGLE_URL: _css_string,
    State.CSS_URL: _css_string,
    State.CSS_BLOCK_COMMENT: _block_comment,
    State.CSS_LINE_COMMENT: _line_comment,
}
