"""Values never change the structure of the document that they are put into."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.templates.expanding import expand
from varve.templates.errors import TemplateError

DOCUMENT = (
    '<p title="{{ .a }}" class={{ .b }}>{{ .a }}</p>'
    "<a href='{{ .a }}'>x</a><a href=\"http://h/{{ .b }}?q={{ .a }}\">y</a><a href={{ .b }}>z</a>"
    "<div style=\"color: {{ .a }}; background: url('{{ .b }}')\">w</div>"
    "<button onclick=\"f({{ .a }}, '{{ .b }}')\">v</button>"
    '<title>{{ .a }}</title><textarea>{{ .b }}</textarea><img srcset="{{ .a }} 2x">'
)
NASTY = [
    *['"', "'", "<", ">", "&", "`", "=", "/", " ", "\n", "\0", ";", ":", "(", ")", "javascript:"],
    *[
        "</p>",
        "</script>",
        "<script>",
        "<!--",
        "-->",
        "onclick",
        "expression(",
        "\\",
        "a",
        "\u2028",
    ],
]
VALUES = st.lists(st.sampled_from(NASTY) | st.text(max_size=2), max_size=6).map("".join)


class _Outline(HTMLParser):
    """Tags and names of attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.seen = []
        self.links = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, [name for name, _ in attrs]))
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        self.seen.append(tag)

    def handle_comment(self, data):
        self.seen.append("comment")


# Python's parser takes other spaces for the end of an attribute, which HTML does not.
PARSED = VALUES.map(lambda text: re.sub(r"[^\S \t\n\f\r]", "", text))


@given(PARSED, PARSED)
def test_values_open_no_tag_and_no_attribute(a, b):
    outline = _Outline(expand(DOCUMENT, {"a": a, "b": b}, html=True))

    assert outline.seen == _Outline(expand(DOCUMENT, {"a": "v", "b": "v"}, html=True)).seen


@given(VALUES)
def test_links_lead_to_the_web_or_to_mail_only(value):
    [link] = _Outline(expand('<a href="{{ . }}">x</a>', value, html=True)).links

    scheme = re.match(r"([^/?#]*):", link)
    assert scheme is None or scheme[1].lower() in ("http", "https", "mailto")


@given(VALUES)
def test_a_string_in_a_script_is_that_string(value):
    text = expand("<script>var x = {{ . }};</script>", value, html=True)

    written = text.removeprefix("<script>var x = ").removesuffix(";</script>")
    assert json.loads(written) == value.encode("utf-8", "surrogateescape").decode(
        "utf-8", "replace"
    )
    assert not set("<>&") & set(written)


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("<p>{{ . }}</p>", "<p>&lt;b&gt;</p>"),
        ("<p>{{ . | html }}</p>", "<p>&lt;b&gt;</p>"),
        ("<p>{{ . | safeHtml }}</p>", "<p><b></p>"),
        ("<!-- {{ . }} -->x", "x"),
        ("1 < 2 {{ . }}", "1 &lt; 2 &lt;b&gt;"),
        ("<style>p { color: {{ . }} }</style>", "<style>p { color: ZgotmplZ }</style>"),
        ("<a {{ . }}>", "<a ZgotmplZ>"),
        ("<script>/* c */ f('{{ . }}')</script>", "<script>  f('\\u003cb\\u003e')</script>"),
        ("{{ nil | print }}{{ .x }}", None),
    ],
)
def test_a_value_is_escaped_for_its_place(text, gives):
    if gives is None:
        with pytest.raises(TemplateError):
            expand(text, "<b>", html=True)
    else:
        assert expand(text, "<b>", html=True) == gives


def test_a_document_must_not_end_within_a_tag():
    with pytest.raises(TemplateError, match="ends in a context that is not text: attribute"):
        expand('<a title="{{ . }}', "x", html=True)
