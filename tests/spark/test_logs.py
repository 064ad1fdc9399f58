"""Spark's own lines in the log of streams."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.spark

PROGRAM = """
import sys
from pathlib import Path
from varve.spark.session import local_conf, session

spark = session("logs", local_conf("local[1]", 512, Path(sys.argv[1]), json_logs=True))
spark._jvm.org.apache.logging.log4j.LogManager.getLogger("varve.test").warn("said by the JVM")
spark.stop()
"""


def test_as_json_the_jvm_logs_objects_with_time_level_logger_and_words(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    (ours,) = [line for line in lines if line["msg"] == "said by the JVM"]
    assert (ours["level"], ours["logger"].rpartition(".")[2]) == ("WARN", "test")
    assert ours["ts"].endswith("Z")
    # Quiet as without: only what is worth a warning, and no line of the other layout.
    assert {line["level"] for line in lines} <= {"WARN", "ERROR"}
    assert not [line for line in ran.stderr.splitlines() if line[:2].isdigit() and " WARN " in line]
