"""Where in an HTML document a place is, as far as escaping depends on it.

Source: Go, html/template, context.go and attr.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class State(Enum):
    """What the place is part of."""

    TEXT = auto()
    TAG = auto()
    ATTRIBUTE_NAME = auto()
    AFTER_NAME = auto()
    BEFORE_VALUE = auto()
    COMMENT = auto()
    RCDATA = auto()
    """Content of title and textarea: text without tags."""
    ATTRIBUTE = auto()
    URL = auto()
    SRCSET = auto()
    JS = auto()
    JS_DOUBLE = auto()
    JS_SINGLE = auto()
    JS_TEMPLATE = auto()
    JS_REGEXP = auto()
    JS_BLOCK_COMMENT = auto()
    JS_LINE_COMMENT = auto()
    CSS = auto()
    CSS_DOUBLE = auto()
    CSS_SINGLE = auto()
    CSS_DOUBLE_URL = auto()
    CSS_SINGLE_URL = auto()
    CSS_URL = auto()
    CSS_BLOCK_COMMENT = auto()
    CSS_LINE_COMMENT = auto()


class Delimiter(Enum):
    """What ends the value of the attribute that the place is in."""

    NONE = ""
    DOUBLE = '"'
    SINGLE = "'"
    SPACE = " \t\n\f\r>"


class UrlPart(Enum):
    NONE = auto()
    """Nothing of the address yet."""
    BEFORE_QUERY = auto()
    QUERY = auto()
    """Behind ? or #."""


class AttributeKind(Enum):
    """What the value of an attribute is."""

    PLAIN = State.ATTRIBUTE
    SCRIPT = State.JS
    STYLE = State.CSS
    URL = State.URL
    SRCSET = State.SRCSET


class Element(Enum):
    """The element whose tag or content the place is in, if its content is not HTML."""

    NONE = ""
    SCRIPT = "script"
    STYLE = "style"
    TEXTAREA = "textarea"
    TITLE = "title"


@dataclass(frozen=True, slots=True)
class Context:
    """slash_divides: in JavaScript, whether a slash is a division and not the start of a regular
    expression. braces: open braces of each `${` that the place is in, innermost last.
    """

    state: State = State.TEXT
    delimiter: Delimiter = Delimiter.NONE
    url_part: UrlPart = UrlPart.NONE
    slash_divides: bool = False
    kind: AttributeKind = AttributeKind.PLAIN
    element: Element = Element.NONE
    is_script_type: bool = False
    """Whether the place is in the attribute `type` of a script."""
    braces: tuple[int, ...] = ()


COMMENTS: Final = frozenset(
    [
        State.COMMENT,
        State.JS_BLOCK_COMMENT,
        State.JS_LINE_COMMENT,
        State.CSS_BLOCK_COMMENT,
        State.CSS_LINE_COMMENT,
    ]
)
JS_LITERALS: Final = frozenset(
    [State.JS_DOUBLE, State.JS_SINGLE, State.JS_TEMPLATE, State.JS_REGEXP]
)
CONTENT: Final = {
    Element.NONE: State.TEXT,
    Element.SCRIPT: State.JS,
    Element.STYLE: State.CSS,
    Element.TEXTAREA: State.RCDATA,
    Element.TITLE: State.RCDATA,
}

_URLS: Final = frozenset(
    [
        "action",
        "archive",
        "background",
        "cite",
        "classid",
        "codebase",
        "data",
        "formaction",
        "href",
        "icon",
        "longdesc",
        "manifest",
        "poster",
        "profile",
        "src",
        "usemap",
        "xmlns",
    ]
)
_UNSAFE: Final = frozenset(
    [
        "accept-charset",
        "async",
        "challenge",
        "charset",
        "content",
        "crossorigin",
        "defer",
        "enctype",
        "form",
        "formenctype",
        "formmethod",
        "formnovalidate",
        "http-equiv",
        "keytype",
        "language",
        "method",
        "novalidate",
        "pattern",
        "rel",
        "sandbox",
        "type",
        "value",
    ]
)


def attribute_kind(name: str) -> AttributeKind:
    """What the value of the attribute is, by its name in small letters."""
    if name.startswith("data-"):
        name = name[5:]
    elif ":" in name:
        prefix, _, name = name.partition(":")
        if prefix == "xmlns":
            return AttributeKind.URL
    if name in _URLS:
        return AttributeKind.URL
    if name == "style":
        return AttributeKind.STYLE
    if name in ("srcset", "imagesrcset"):
        return AttributeKind.SRCSET
    if name in _UNSAFE or name == "srcdoc":
        return AttributeKind.PLAIN
    if name.startswith("on"):
        return AttributeKind.SCRIPT
    if any(part in name for part in ("src", "uri", "url")):
        return AttributeKind.URL
    return AttributeKind.PLAIN


def may_be_written(name: str) -> bool:
    """Whether a value may be the name of an attribute: its value needs no care."""
    return name not in _UNSAFE and name != "srcdoc" and attribute_kind(name) is AttributeKind.PLAIN
