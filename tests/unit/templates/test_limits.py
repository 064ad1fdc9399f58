"""No template takes a service's time or memory: every one of these ends with an error of ours."""

import pytest

from tests.unit.templates.expanding import expand
from varve.templates.budget import Limits
from varve.templates.errors import TemplateError

LIMITS = Limits(steps=20_000, output=200_000)
DOUBLED = '{{ $x := "0123456789" }}' + "{{ $x = print $x $x }}" * 60
LONG = '{{ $x := printf "%01000d" 0 }}'
NESTED = "{{ $l := list 1 }}" + "{{ $l = list $l $l }}" * 60


@pytest.mark.parametrize(
    "text",
    [
        "{{ range 1000000000 }}{{ end }}",
        "{{ range 1000 }}{{ range 1000 }}x{{ end }}{{ end }}",
        '{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
        '{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
        DOUBLED,
        DOUBLED.replace("print", 'printf "%s%s"'),
        '{{ range 1000 }}{{ printf "%100000d" 1 }}{{ end }}',
        '{{ printf "%9999999999d" 1 }}',
        LONG + '{{ reReplaceAll "0" $x $x | len }}',
        LONG + "{{ $s := stringSlice $x $x }}{{ range 100 }}{{ $x = join $x $s }}{{ end }}",
        NESTED + "{{ $l }}",
        NESTED + "{{ $l | toJson }}",
        "{{ $l := list 1 }}{{ range 1000 }}{{ $l = list $l }}{{ end }}{{ $l }}",
        "{{ $l := list }}{{ range 10000 }}{{ $l = append $l 1 }}{{ end }}",
        LONG + "{{ range 1000 }}{{ $x | html | js | urlquery | len }}{{ end }}",
        "{{" + "(" * 1000 + "1" + ")" * 1000 + "}}",
        "{{ if 1 }}" * 1000 + "{{ end }}" * 1000,
    ],
)
def test_a_template_ends_at_its_limits(text):
    with pytest.raises(TemplateError):
        expand(text, limits=LIMITS)


def test_what_stays_within_the_limits_is_expanded():
    assert expand("{{ range 100 }}x{{ end }}", limits=LIMITS) == "x" * 100
