"""The process that Spark forks its Python workers from, with what they need imported beforehand.

Imports take seconds of CPU and 150 MB; forked workers share both. Named to Spark by the setting
spark.python.daemon.module, in varve.spark.session.
"""

from __future__ import annotations

import varve.ingest.task
import varve.rollups.task  # noqa: F401

if __name__ == "__main__":
    from pyspark.daemon import manager

    manager()  # type: ignore[no-untyped-call]
