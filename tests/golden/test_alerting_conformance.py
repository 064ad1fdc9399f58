"""Cases of the alerting judge, if shared/alerttest is beside the checkout.

VARVE_SHARED names the folder that holds alerttest if it is elsewhere.
"""

import os
import sys
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VARVE_SHARED", Path(__file__).parents[3] / "shared"))
pytestmark = pytest.mark.skipif(
    not (SHARED / "alerttest").is_dir(), reason=f"no alerttest under {SHARED}"
)


@pytest.fixture(scope="module", autouse=True)
def judge():
    sys.path.insert(0, str(SHARED))
    yield SHARED / "alerttest"
    sys.path.remove(str(SHARED))


@pytest.mark.parametrize("kind", ["alert", "notification"])
def test_every_template_gives_what_it_should(judge, kind):
    from alerttest import templates

    from varve.templates import conformance

    class Adapter:
        alert_template = staticmethod(conformance.alert_template)
        notification_template = staticmethod(conformance.notification_template)

    cases = templates.cases(judge / "templates" / f"{kind}.yml")
    failed = {
        raw["name"]: why
        for _, case, raw in cases
        if (why := templates.failure(Adapter(), kind, case, raw))
    }

    assert cases
    assert failed == {}


def test_every_scenario_of_rules_ends_as_it_should(judge):
    from alerttest import evaluation

    from varve.rules.conformance import Adapter

    failed = {}
    for path in sorted((judge / "evaluation").glob("*.yml")):
        for scenario in evaluation.scenarios(path):
            wrong = evaluation.failures(scenario, Adapter().rules(scenario.plan))
            if wrong:
                failed[scenario.name] = wrong

    assert failed == {}


def statuses(folder, action, monkeypatch):
    """The files of a folder whose command ends with another status than it should."""
    from alerttest.reading import load

    from varve.cli.main import main

    wrong = {}
    for name, expected in load(folder / "expected.yml").items():
        path = folder / name
        monkeypatch.chdir(path.parent)
        status = main(["rules", action, path.name])
        if status != expected:
            wrong[name] = status
    return wrong


def test_rule_files_of_others_are_judged_as_promtool_judges_them(judge, monkeypatch, capsys):
    assert statuses(judge / "checks", "check", monkeypatch) == {}


def test_rule_files_of_ours_are_judged_as_promtool_judges_them(judge):
    from alerttest.reading import dump, load

    from varve.rules.errors import RuleFileError
    from varve.rules.rule_file import parse_rule_file

    wrong = []
    for case in load(judge / "checks" / "ours.yml")["cases"]:
        try:
            parse_rule_file(dump(case["config"]), "case.yml")
        except RuleFileError:
            valid = False
        else:
            valid = True
        if valid != case["valid"]:
            wrong.append(case["name"])

    assert wrong == []


@pytest.mark.slow
def test_rule_tests_of_others_end_as_promtool_ends_them(judge, monkeypatch, capsys):
    assert statuses(judge / "rules", "test", monkeypatch) == {}
