"""A process that ingests, and can be made to kill itself at a point of a batch.

python driver.py POINT NUMBER: kills itself (SIGKILL, with the JVM) when POINT is passed the
NUMBERth time; POINT "none" never. Begins once a line comes on standard input, its JVM running
already. Settings come from VARVE_* in the environment.
"""

from __future__ import annotations

import os
import sys

from tests.integration.ingest import faults
from varve.ingest import batch, series_registry
from varve.services.ingest_plans import ingest_plans
from varve.services.logs import configure_logging
from varve.services.streams import run_queries, start_ingest, with_topics
from varve.settings import load
from varve.spark import ingest
from varve.spark.session import local_conf, session


def main() -> int:
    point, number = sys.argv[1], int(sys.argv[2])
    configure_logging()
    faults.arm(point, number)
    os.environ["FAULT_POINT"] = f"{point} {number} {os.getpgid(0)}"
    faults.before(ingest.IngestQuery, "_store", "before the batch")
    faults.after(series_registry.SeriesRegistry, "register", "after registration")
    faults.before(batch.BatchCommitter, "_commit_rejects", "between the commits")
    faults.after(batch.BatchCommitter, "commit", "after both commits")
    settings, _ = load()
    scratch = settings.home.absolute() / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    conf = local_conf("local[2]", 512, scratch)
    conf["spark.python.daemon.module"] = "tests.integration.ingest.faulty_daemon"
    spark = session("varve-test", conf)
    sys.stdin.readline()
    return run_queries(spark, [start_ingest(plan) for plan in with_topics(ingest_plans(settings))])


if __name__ == "__main__":
    sys.exit(main())
