import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.promql.strategies import expressions
from varve.promql.syntax.parser import parse
from varve.promql.syntax.pretty import pretty
from varve.promql.syntax.printer import to_text

LONG = "a_metric_with_a_name_of_fifty_characters_or_so_1234"


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(expressions())
def test_what_is_laid_out_parses_to_an_equal_tree(expr):
    assert parse(pretty(expr)) == expr


def test_what_fits_a_line_stays_on_it():
    assert pretty(parse("sum(foo)  +   bar")) == "sum(foo) + bar"
    assert pretty(parse(f"{LONG} + {'b' * 46}")) == f"{LONG} + {'b' * 46}"


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (f"{LONG} + {LONG}", [f"  {LONG}", "+", f"  {LONG}"]),
        (
            f"{LONG} == bool on (a) {LONG} * 2",
            [f"  {LONG}", "== bool on (a)", f"  {LONG} * 2"],
        ),
        (
            f"sum by (a) ({LONG} + {LONG})",
            ["sum by (a) (", f"    {LONG}", "  +", f"    {LONG}", ")"],
        ),
        (
            f"topk(5, ({LONG} + {LONG}))",
            [
                "topk(",
                "  5,",
                "  (",
                f"      {LONG}",
                "    +",
                f"      {LONG}",
                "  )",
                ")",
            ],
        ),
        (
            f"label_replace({LONG}, 'a', 'b', 'c', 'a regex that makes the line too long')",
            [
                "label_replace(",
                f"  {LONG},",
                '  "a",',
                '  "b",',
                '  "c",',
                '  "a regex that makes the line too long"',
                ")",
            ],
        ),
        (
            f"rate({LONG}[5m]) + sum_over_time(({LONG} + 1)[1h:5m] offset 3m) - 1",
            [
                f"    rate({LONG}[5m])",
                "  +",
                f"    sum_over_time(({LONG} + 1)[1h:5m] offset 3m)",
                "-",
                "  1",
            ],
        ),
        (
            f"-({LONG} + {LONG})[1h:5m]"[1:],
            ["(", f"    {LONG}", "  +", f"    {LONG}", ")[1h:5m]"],
        ),
        (f"-({LONG} + {LONG})", ["-(", f"    {LONG}", "  +", f"    {LONG}", ")"]),
    ],
)
def test_what_does_not_fit_is_split_at_its_parts(query, lines):
    assert pretty(parse(query)) == "\n".join(lines)


def test_a_long_chain_of_operators_is_laid_out_in_a_text_of_like_size():
    expr = parse(" + ".join(["foo"] * 5_000))

    assert len(pretty(expr)) < 50 * len(to_text(expr))
