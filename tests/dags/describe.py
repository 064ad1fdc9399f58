"""Prints the DAGs of a folder as JSON. Runs in Airflow's environment."""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag

bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
# Standard output has what Airflow itself says.
sys.stderr.write(
    json.dumps(
        {
            "errors": bag.import_errors,
            "dags": {
                dag.dag_id: {
                    "catchup": dag.catchup,
                    "max_active_runs": dag.max_active_runs,
                    "deadline_s": dag.dagrun_timeout and dag.dagrun_timeout.total_seconds(),
                    "tells": bool(dag.has_on_failure_callback),
                    "doc": dag.doc_md,
                    "tasks": {
                        task.task_id: {
                            "pool": task.pool,
                            "retries": task.retries,
                            "deadline_s": task.execution_timeout
                            and task.execution_timeout.total_seconds(),
                            "tells": bool(task.has_on_failure_callback),
                            "settles": bool(task.has_on_success_callback),
                            "operator": task.task_type,
                            "outlets": [outlet.uri for outlet in task.outlets],
                            "upstream": sorted(task.upstream_task_ids),
                        }
                        for task in dag.tasks
                    },
                }
                for dag in bag.dags.values()
            },
        }
    )
    + "\n"
)
