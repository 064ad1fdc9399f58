"""A DAG whose job does not exist, for the test of what is told then. It fails at once."""

from airflow.sdk import dag
from varve_jobs import BEGIN, DEFAULTS, submit


@dag(default_args={**DEFAULTS, "retries": 0}, start_date=BEGIN, catchup=False, schedule=None)
def failing() -> None:
    submit("no_such_job", task_id="submit")


failing()
