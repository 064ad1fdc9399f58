import pytest

from tests.unit.templates.expanding import expand
from varve.templates.errors import TemplateError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ 1 ", "t:1:6: unclosed action"),
        ("a\n {{ end }}", "t:2:5: unexpected {{end}}"),
        ("{{ if 1 }}", "t:1:11: unexpected end of text: an {{end}} is missing"),
        ("{{ nothing }}", 't:1:4: function "nothing" not defined'),
        ("é{{ $x }}", 't:1:5: undefined variable "$x"'),
        ("{{ 1 | 2 }}", "t:1:8: non executable command in pipeline"),
        ("{{ break }}", "t:1:4: {{break}} outside {{range}}"),
        ('{{ "\\q" }}', "t:1:4: invalid escape \\q"),
        ("{{ 99999999999999999999 }}", "t:1:4: integer overflow: 99999999999999999999"),
        ("{{/* a }}", "t:1:1: unclosed comment"),
        ("{{ 1.a }}", "t:1:4: bad number syntax: 1.a"),
        ('{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}', "multiple definition"),
        ("{{ if 1 }}{{ define `a` }}{{ end }}{{ end }}", "it stands inside something"),
        ("{{ template }}", "unexpected }} in template clause"),
        ("{{ range $a, $b, $c := 1 }}{{ end }}", "too many declarations"),
    ],
)
def test_what_does_not_parse_is_said_with_its_place(text, message):
    with pytest.raises(TemplateError) as failed:
        expand(text)

    assert message in str(failed.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ .a.b }}", "t:1:4: nil pointer evaluating interface {}.b"),
        ("\n{{ len 3 }}", "t:2:4: error calling len: len of type int"),
        ("{{ toUpper 3 }}", "t:1:12: expected string; found 3"),
        ("{{ toUpper }}", "t:1:4: wrong number of args for toUpper: want 1 got 0"),
        ("{{ template `x` }}", 't:1:4: template "x" not defined'),
        ("{{ define `d` }}\n{{ index 1 2 }}{{ end }}{{ template `d` }}", "t:2:4: error calling"),
        ("{{ eq 1 1.0 }}", "incompatible types for comparison"),
        ("{{ range 1.5 }}{{ end }}", "range can't iterate over a value of type float64"),
    ],
)
def test_what_fails_on_the_way_is_said_with_its_place(text, message):
    with pytest.raises(TemplateError) as failed:
        expand(text, {})

    assert message in str(failed.value)
