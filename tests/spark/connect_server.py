"""A Spark Connect server with two workers, each an executor of its own process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pyspark

_READY_S = 600.0
_SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


@contextmanager
def connect_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address, and its process."""
    home, root = Path(pyspark.__file__).parent, Path(__file__).parents[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = str(root / "pipelines")
    conf = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": path,
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.executor.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.executor.memory": "512m",
    }
    command = [str(home / "bin" / "spark-submit"), "--master", "local-cluster[2,1,512]"]
    command += ["--driver-memory", "512m", "--class", _SERVER]
    command += [part for item in conf.items() for part in ("--conf", "=".join(item))]
    env = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_SCALA_VERSION": "2.13",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": path,
    }
    others = set(_work_of(home))
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "spark-internal"], env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(_READY_S)
        yield f"sc://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(60)
        for left in set(_work_of(home)) - others:
            shutil.rmtree(left, ignore_errors=True)


def _work_of(home: Path) -> list[Path]:
    """What workers of a local cluster leave, which have no other place for it."""
    return list((home / "work").glob("app-*"))
