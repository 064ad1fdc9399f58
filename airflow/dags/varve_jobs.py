"""What the DAGs of Varve share: how a job is submitted, its report read, its failure told.

Airflow runs in an environment of its own and imports nothing of Varve: a task submits a main of
jobs/ by its path and reads the line of JSON that it prints. docs/airflow.md lists the variables.
"""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Context, Variable, task

ROLLUPS = ("rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d")
RECORDS = ("histograms", "exemplars")
OTHERS = "others"
"""What stands for all tables that have no task of their own."""

COMPACTED = Asset("varve://tables/compacted")
RETAINED = Asset("varve://tables/retained")
"""What is older than its retention has gone."""
TIERED = Asset("varve://tables/tiered")
BASELINES = Asset("varve://tables/baselines")
FORECASTS = Asset("varve://tables/forecasts")
QUALITY = Asset("varve://tables/quality")

READ_POOL = "varve_read"

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
"""What a DAG with catchup off is said to start on: of earlier days a backfill would run no task."""

_PROJECT = Path(__file__).resolve().parents[2]
_TELLING_S = 60

log = logging.getLogger(__name__)


def rewrite_pool(table: str) -> str:
    """The pool that lets one job at a time rewrite a table."""
    return f"varve_rewrite_{table}"


def submit_each(job: str, tables: Sequence[str], **arguments: Any) -> list[Any]:
    """A task for each of the tables, and one for all others that the job knows, so that a table
    which a later release adds is not forgotten. Each takes the one slot of its pool.
    """
    chosen = [(table, ("--table", table)) for table in tables]
    chosen.append((OTHERS, tuple(word for table in tables for word in ("--except", table))))
    return [
        submit(job, *options, task_id=f"{job}_{name}", pool=rewrite_pool(name), **arguments)
        for name, options in chosen
    ]


def command_line(job: str, *options: str) -> list[str]:
    """The words that start jobs/<job>.py: launcher, path, where the tables are, options."""
    return [
        *shlex.split(Variable.get("varve_launcher", default=".venv/bin/python")),
        f"{Variable.get('varve_jobs', default='jobs')}/{job}.py",
        *shlex.split(Variable.get("varve_settings", default="")),
        *options,
    ]


def project_folder() -> str:
    """The folder that the launcher and the jobs are looked up in."""
    return str(Variable.get("varve_project", default=str(_PROJECT)))


def submit(job: str, *options: str, task_id: str, **arguments: Any) -> Any:
    """A task that runs jobs/<job>.py with the options to its end; its result is the job's report.

    A job does what is due and ends; one that was cut short is finished by the next, so every
    failure may be tried again. arguments: of the task. Options may have Airflow's templates.
    """

    @task.bash(task_id=task_id, output_processor=json.loads, **arguments)
    def run() -> str:
        words = shlex.join(command_line(job, *options, "--json"))
        # The report is the last line of standard output; what a JVM says goes to the task's log.
        return (
            f"cd {shlex.quote(project_folder())} && report=$({words}) || exit $?\n"
            'printf "%s" "$report" | tail -n 1'
        )

    return run()


def told(context: Context) -> None:
    """Callback of a failed task: an alert fires on the topic alerts."""
    ti = context["ti"]
    why = str(context.get("exception") or "no reason given")
    _send_alert(context, "firing", f"{ti.dag_id}.{ti.task_id} failed: {why}")


def settled(context: Context) -> None:
    """Callback of a task that succeeded: the alert ends if it failed the time before."""
    ti = context["ti"]
    before = ti.get_previous_ti()
    if before is not None and before.state == "failed":
        since = (before.end_date or before.start_date or datetime.now(UTC)).isoformat()
        text = f"{ti.dag_id}.{ti.task_id} succeeded again"
        _send_alert(context, "resolved", text, "--since", since)


def ran_out_of_time(context: Context) -> None:
    """Callback of a run of a DAG that failed as a whole, as it does past its deadline."""
    if context.get("reason") != "timed_out":
        return  # the task that failed has told
    run = context["dag_run"]
    labels = ("--label", f"dag_id={run.dag_id}")
    text = f"{run.dag_id} was not done by its deadline"
    words = (*labels, "--hours", "48", "--annotation", f"run_id={run.run_id}")
    _run_alert("VarveRunLate", "firing", text, *words)  # nothing says when it is over


def _send_alert(context: Context, state: str, summary: str, *options: str) -> None:
    ti = context["ti"]
    labels = ("--label", f"dag_id={ti.dag_id}", "--label", f"task_id={ti.task_id}")
    words = (*labels, "--annotation", f"run_id={ti.run_id}", *options)
    _run_alert("VarveJobFailed", state, summary, *words)


def _run_alert(name: str, state: str, summary: str, *options: str) -> None:
    """Nothing fails because it could not be told: the log then says so."""
    words = command_line("send_alert", "--name", name, "--state", state)
    words += ["--label", "severity=warning", "--annotation", f"summary={summary[:2_000]}", *options]
    try:
        done = subprocess.run(  # a list of words, no shell
            words,
            cwd=project_folder(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TELLING_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        log.warning("not told on the topic alerts: %s", err)
        return
    if done.returncode:
        log.warning("not told on the topic alerts: %s", done.stderr.strip())


DEFAULTS = {
    "retries": 2,
    "retry_delay": timedelta(minutes=2),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
    "on_failure_callback": told,
    "on_success_callback": settled,
}
"""Arguments of every task."""

DAG_DEFAULTS = {
    "default_args": DEFAULTS,
    "start_date": BEGIN,
    "catchup": False,
    "max_active_runs": 1,
    "on_failure_callback": ran_out_of_time,
    "tags": ["varve"],
}
"""Arguments of every DAG. Runs of one DAG follow each other: what a job does is what is due."""
