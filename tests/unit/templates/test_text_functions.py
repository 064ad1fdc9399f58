import pytest

from varve.model.fingerprint import fingerprint
from varve.templates import text_functions
from varve.templates.budget import Budget, Limits


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "gives"),
    [
        ("a*", "-", "baac", "-b-c-"),
        ("(?P<x>b)(c)?", "[${x}|$2|$3|$x1]", "abac", "a[b|||]ac"),
        ("", ".", "é", ".é."),
        ("x", "$$", "axb", "a$b"),
    ],
)
def test_matches_are_replaced_as_go_does(pattern, replacement, text, gives):
    assert text_functions.replace_all(Budget(Limits()), pattern, replacement, text) == gives


@pytest.mark.parametrize(
    ("text", "keeping", "lowering"),
    [
        ("aa bb CC o'neill x-y", "Aa Bb CC O'neill X-Y", "Aa Bb Cc O'neill X-Y"),
        ("a.b 1st _x über", "A.b 1St _X Über", "A.b 1St _X Über"),
        ("日本b ΑΣ x1's", "日本B ΑΣ X1's", "日本B Ας X1's"),
        ("", "", ""),
    ],
)
def test_titles(text, keeping, lowering):
    assert text_functions.title_keeping(text) == keeping
    assert text_functions.title_lowering(text) == lowering


def test_a_fingerprint_does_not_depend_on_the_order_of_labels():
    labels = {"zone": "x", "alertname": "Down", "instance": "b", "severity": "page"}

    assert f"{fingerprint(labels):016x}" == "c6d2d868e8313e5f"
    assert fingerprint(dict(sorted(labels.items()))) == fingerprint(labels)
