"""jobs/register_tables.py on a metastore of Derby: another program then asks by name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.model.schema import TABLES
from varve.model.views import VIEWS
from varve.model.window import TIERS
from varve.spark.session import local_conf

# Two JVMs, each with a metastore: a minute of CPU.
pytestmark = [pytest.mark.spark, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BEGIN = 1_795_338_000_000
SERIES = define("load", {"host": "a b"})
# Those that views are of: each takes a second.
KEPT = ("samples", "series", "quarantine", *(tier.table for tier in TIERS))

# A second program: it knows the metastore and nothing of where tables are.
ASKS = """
import json
from varve.spark.session import session
conf = {"spark.sql.catalogImplementation": "hive"}
spark = session("another", conf | {"spark.databricks.delta.snapshotPartitions": "1"})
asked = {
    "raw": [r.value for r in spark.sql("SELECT value FROM varve.raw ORDER BY ts").collect()],
    "minutes": spark.table("varve.metrics_1m").count(),
    "types": {t.name: t.tableType for t in spark.catalog.listTables("varve")},
}
print(json.dumps(asked))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("metastore it's")
    tables = WrittenTables(str(home / "tables"))
    tables.define([SERIES], BEGIN)
    put = [(SERIES.series_id, BEGIN + n * 20_000, float(n)) for n in range(1, 7)]
    tables.put([*put, put[0]], complete_ms=BEGIN + 600_000)
    tables.roll_up()
    leave_only(home / "tables", KEPT)
    return home


def leave_only(root, names):
    for name in set(TABLES) - set(names):
        shutil.rmtree(root / name)


def run(home, *words):
    conf = local_conf("local[1]", 1024, home / "scratch") | {
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": (
            f"jdbc:derby:;databaseName={home / 'metastore_db'};create=true"
        ),
    }
    properties = home / "spark.conf"
    properties.write_text("".join(f"{name} {value}\n" for name, value in conf.items()))
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT / "pipelines"),
            "PYSPARK_SUBMIT_ARGS": f'--properties-file "{properties}" pyspark-shell',
        },
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def registering():
    """Runs the main twice, in one JVM."""
    return f"""
import runpy, sys
sys.path.insert(0, {str(ROOT / "pipelines")!r})
for _ in range(2):
    try:
        runpy.run_path({str(ROOT / "jobs" / "register_tables.py")!r}, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, end.code
"""


def test_tables_and_views_are_known_by_name_and_a_second_run_changes_nothing(home):
    first, again = run(home, "-c", registering(), "--home", str(home), "--json")
    assert sorted(first["created"]) == sorted([*KEPT, *VIEWS])
    assert sorted(again["kept"]) == sorted([*KEPT, *VIEWS])
    assert again["created"] == again["replaced"] == []

    # Another program asks; then samples get a colder root.
    config = home / "varve.toml"
    config.write_text(f'[storage]\ncold_root = "{home}/cold"\n')
    WrittenTables(f"{home}/cold")
    leave_only(home / "cold", ["samples"])
    options = ("--home", str(home), "--config", str(config), "--json")
    asked, with_cold, same, asked_again = run(home, "-c", ASKS + registering() + ASKS, *options)

    assert asked["raw"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert asked["minutes"] == 2
    assert {asked["types"][name] for name in KEPT} == {"EXTERNAL"}
    assert {asked["types"][name] for name in VIEWS} == {"VIEW"}
    assert sorted(with_cold["created"]) == ["samples_cold", "samples_hot"]
    assert with_cold["replaced"] == ["samples"]
    assert same["created"] == same["replaced"] == []
    assert asked_again["raw"] == asked["raw"]
    assert asked_again["types"]["samples"] == "VIEW"
