import textwrap

import pytest

from varve.cli.main import main

GOOD = "groups: [{name: g, rules: [{record: r, expr: m}, {alert: A, expr: m > 0}]}]"
TEST = """\
rule_files: [rules.yml]
tests:
- name: passes
  input_series: [{series: m, values: 1x3}]
  promql_expr_test: [{expr: r, eval_time: 2m, exp_samples: [{labels: r, value: 1}]}]
- name: fails
  input_series: [{series: m, values: 1x3}]
  alert_rule_test: [{eval_time: 1m, alertname: A}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yml").write_text(GOOD)
    (tmp_path / "test.yml").write_text(TEST)
    return tmp_path


def test_a_good_file_is_counted(folder, capsys):
    assert main(["rules", "check", "rules.yml"]) == 0

    assert capsys.readouterr().out == "Checking rules.yml\n  SUCCESS: 2 rules found\n\n"


def test_a_bad_file_is_refused_with_places_and_the_others_are_checked(folder, capsys):
    (folder / "bad.yml").write_text("groups:\n- name: g\n  rulez: []\n")

    assert main(["rules", "check", "bad.yml", "rules.yml", "missing.yml"]) == 1

    out, err = capsys.readouterr()
    assert "bad.yml: 3:3: field rulez not found in a group" in err
    assert "missing.yml" in err
    assert "SUCCESS: 2 rules found" in out


def test_unknown_fields_may_be_ignored(folder):
    (folder / "extra.yml").write_text("groups: [{name: g, owner: me, rules: []}]")

    assert main(["rules", "check", "extra.yml"]) == 1
    assert main(["rules", "check", "--ignore-unknown-fields", "extra.yml"]) == 0


def test_the_lint_counts_only_if_asked(folder, capsys):
    (folder / "twice.yml").write_text(
        "groups: [{name: g, rules: [{record: r, expr: m}, {record: r, expr: n}]}]"
    )

    assert main(["rules", "check", "twice.yml"]) == 0
    assert main(["rules", "check", "--lint-fatal", "twice.yml"]) == 3
    assert main(["rules", "check", "--lint", "none", "--lint-fatal", "twice.yml"]) == 0
    assert (
        "  FAILED:\nlint error 1 duplicate rule(s) found.\nMetric: r\n" in capsys.readouterr().err
    )


def test_what_fails_is_said_and_the_status_is_1(folder, capsys):
    assert main(["rules", "test", "test.yml"]) == 1

    out, err = capsys.readouterr()
    assert out.split() == ["Unit", "Testing:", "test.yml"]
    assert "  FAILED:\n    name: fails,\n    alertname: A, time: 1m, \n" in err


def test_only_the_named_tests_are_run(folder, capsys):
    assert main(["rules", "test", "--run", "^passes$", "test.yml"]) == 0

    assert "SUCCESS" in capsys.readouterr().out


def test_what_differs_can_be_shown_line_by_line(folder, capsys):
    main(["rules", "test", "--diff", "test.yml"])

    assert "\n          -[]\n          +[\n          +0:\n" in capsys.readouterr().err


def test_the_outcome_is_written_for_ci(folder):
    main(["rules", "test", "--junit", "out.xml", "test.yml"])

    text = (folder / "out.xml").read_text()
    assert '<testsuite name="test.yml" tests="2" failures="1">' in text
    assert '<testcase name="passes" />' in text


def test_a_missing_rule_file_is_warned_of(folder, capsys):
    (folder / "lonely.yml").write_text(
        textwrap.dedent("""\
        rule_files: [nothing-*.yml]
        tests: []
        """)
    )

    assert main(["rules", "test", "lonely.yml"]) == 0
    assert "WARNING: no file match pattern" in capsys.readouterr().err
