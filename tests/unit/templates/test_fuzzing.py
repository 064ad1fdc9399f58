"""Whatever is expanded, there is a text or a TemplateError."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.templates.expanding import expand
from varve.templates.budget import Limits
from varve.templates.builtins import BUILTINS
from varve.templates.errors import TemplateError
from varve.templates.notification_templates import FUNCTION_NAMES

WORDS = [
    *["{{", "}}", "{{-", "-}}", "|", "(", ")", ".", "$", '"', "`", " ", "%", ",", ":=", "="],
    *["range", "if", "with", "else", "end", "define", "template", "block", "break", "nil", "true"],
    *['"a"', "'x'", "1", "-3", "2.5", "1e400", "0x1f", "1i", "$x", ".a", ".b.c", "\udc80", "é"],
    *['"%d%s%v%*d"', '"2006-01-02 15:04:05"', '"(a*)*"', "<a href=", "<script>", "</script>", ">"],
    *sorted(BUILTINS),
    *sorted(FUNCTION_NAMES),
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=25)
ACTIONS = st.lists(st.sampled_from(WORDS[20:]), min_size=1, max_size=5).map(
    lambda words: "{{ " + " ".join(words) + " }}"
)
DATA = {"a": "<x>&\"'", "b": {"c": [1, 2.5, None, True]}}
LIMITS = Limits(steps=2_000, output=20_000)


@settings(max_examples=400)
@given(
    TEXTS.map("".join) | TEXTS.map(" ".join) | st.lists(ACTIONS, max_size=4).map("".join),
    st.booleans(),
)
def test_only_errors_of_ours_come_out(text, html):
    with contextlib.suppress(TemplateError):
        assert isinstance(expand(text, DATA, html=html, limits=LIMITS), str)
