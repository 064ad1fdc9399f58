"""Regexes tried on many texts at once, against the same one by one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from varve.promql.syntax import regexes
from varve.promql.syntax.regexes import compile_anchored, matching

PARTS = st.sampled_from(
    [
        *("a", "b", "é", ".", "\n", "a*", "(a|b)", "[^a]", "\\d", "1", "b+?", "x{0,2}", "|"),
        *("$", "^", "\\Qa.b", "\\Qb|\\E", "(?i)", "(?i:B)", "\\b", "\\C", "\\pL", "(?-s:.)"),
        *("(?P<n>a)", "\\z"),
    ]
)
PATTERNS = st.lists(PARTS, max_size=6).map("".join)
TEXTS = st.lists(
    st.text(st.sampled_from("abB1.é|\n\x00x\U0001f600"), max_size=5), min_size=0, max_size=12
)


@given(PATTERNS, TEXTS)
@example("\\Qa.b", ["a.b", "a.b)\\z", "axb"])
@example("a|b", ["a", "b", "ab", "ba"])
@example(".", ["é", "\n", "\U0001f600", ""])
def test_many_match_as_each_alone(pattern, texts):
    try:
        one = compile_anchored(pattern).fullmatch
    except ValueError:
        with pytest.raises(ValueError, match="parsing regexp"):
            matching(pattern, texts, range(len(texts)))
        return
    expected = [one(text) is not None for text in texts]
    padded = ["", *texts] + ["zz"] * (regexes._FEW + 1)
    found = matching(pattern, padded, range(1, len(padded)))
    assert found.tolist()[: len(texts)] == expected
    assert matching(pattern, texts, range(len(texts))).tolist() == expected


def test_pieces_are_put_together_and_checked_between(monkeypatch):
    monkeypatch.setattr(regexes, "_TEXTS_A_PIECE", 100)
    checks = []
    texts = [f"pod-{i}" for i in range(1_000)]
    found = matching("pod-.*7", texts, range(10, 1_000), lambda: checks.append(1))
    assert found.tolist() == [i % 10 == 7 for i in range(10, 1_000)]
    assert len(checks) >= 990 // max(100, regexes._TEXTS_A_CHARACTER * len("pod-.*7"))


def test_what_is_as_large_as_can_be_matches_without_its_anchors():
    """RE2 takes it, and nothing that is longer; then it is tried one by one."""
    pattern = "".join(f"(?:{'ab' * 10}{i}){{1,9}}|" for i in range(150)) + "zz"
    texts = ["zz", "a"] * 100
    assert matching(pattern, texts, range(200)).tolist() == [True, False] * 100
