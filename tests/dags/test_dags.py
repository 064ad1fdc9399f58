"""The DAGs are read, and are as docs/airflow.md says, in the Airflow that the lock file pins."""

import json
import re

import pytest

from tests.dags.conftest import DAGS, ROOT

pytestmark = [pytest.mark.airflow, pytest.mark.kafka]
REWRITING = ("compact", "expire", "tier")


def submitting(dags):
    return [
        (dag_id, name, task)
        for dag_id, dag in dags.items()
        for name, task in dag["tasks"].items()
        if task["operator"] == "_BashDecoratedOperator"
    ]


def test_there_is_one_dag_a_file_of_the_same_name(dags):
    assert sorted(dags) == sorted(
        file.stem for file in DAGS.glob("*.py") if file.name != "varve_jobs.py"
    )


def test_every_run_has_a_deadline_and_runs_of_a_dag_follow_each_other(dags):
    assert {name for name, dag in dags.items() if not dag["deadline_s"]} == set()
    assert {dag["max_active_runs"] for dag in dags.values()} == {1}
    assert {name for name, dag in dags.items() if not (dag["tells"] and dag["doc"])} == set()


def test_every_task_is_tried_again_and_tells_of_its_failure(dags):
    tasks = [(d, n, t) for d, dag in dags.items() for n, t in dag["tasks"].items()]
    assert len(tasks) > 10
    for dag_id, name, task in tasks:
        assert task["retries"] >= 1, (dag_id, name)
        assert task["tells"], (dag_id, name)
        assert task["settles"], (dag_id, name)


def test_every_job_has_a_deadline_within_that_of_its_run(dags):
    for dag_id, name, task in submitting(dags):
        assert 0 < task["deadline_s"] <= dags[dag_id]["deadline_s"], (dag_id, name)


def test_jobs_that_rewrite_a_table_share_its_pool_which_has_one_slot(dags):
    pools = json.loads((ROOT / "airflow" / "pools.json").read_text())
    assert all(p["slots"] == 1 for name, p in pools.items() if name.startswith("varve_rewrite_"))
    rewriting = [
        (name, task) for _, name, task in submitting(dags) if name.split("_")[0] in REWRITING
    ]
    assert len(rewriting) >= 11
    for name, task in rewriting:
        assert task["pool"] == f"varve_rewrite_{name.partition('_')[2]}"
    assert {task["pool"] for _, _, task in submitting(dags)} <= pools.keys() | {"default_pool"}


def test_dags_start_jobs_that_exist_and_import_none_of_our_code():
    for file in DAGS.glob("*.py"):
        text = file.read_text()
        for job in re.findall(r'submit\(\s*"(\w+)"', text):
            assert (ROOT / "jobs" / f"{job}.py").exists(), (file.name, job)
        assert not re.search(r"^\s*(from|import) (varve|jobs)\b(?!_)", text, re.MULTILINE)


def test_the_page_about_airflow_names_every_dag_pool_and_variable(dags):
    text = (ROOT / "docs" / "airflow.md").read_text()
    variables = re.findall(r'Variable\.get\(\s*[\'"](\w+)', (DAGS / "varve_jobs.py").read_text())
    assert len(variables) == 4
    assert {name for name in [*dags, *variables] if f"`{name}`" not in text} == set()
