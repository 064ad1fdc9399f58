"""spark-submit main: registers the tables and views in a Hive-compatible metastore.

spark-submit ... jobs/register_tables.py --config varve.toml [--database varve] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from varve.model.errors import VarveError
from varve.services.logs import configure_for
from varve.services.progress import table_store
from varve.settings import load
from varve.spark.metastore import register
from varve.spark.session import session

DESCRIPTION = """\
Makes the tables known by name to whoever asks the metastore: external tables over the files where
they are, and the views of docs/sql.md. Run it once, after an upgrade, and after a root has moved;
again it changes nothing. Which metastore is up to Spark (hive-site.xml, or
spark.hadoop.hive.metastore.uris); without one Spark makes one in the current folder.
"""
CONF = {
    "spark.sql.catalogImplementation": "hive",
    # A table's files are not read here, so that Delta need not spread them over 50 tasks.
    "spark.databricks.delta.snapshotPartitions": "1",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="data folder (default: .varve)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    parser.add_argument("--database", default="varve", help="in the metastore (default: varve)")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    args = parser.parse_args()
    try:
        settings, _ = load(args.config, overrides={"home": args.home})
        configure_for(settings)
        spark = session("varve-register-tables", CONF)
        done = register(spark, table_store(settings), args.database)
    except VarveError as err:
        print(f"{parser.prog}: {err}", file=sys.stderr)
        return 1
    print(json.dumps(done.as_json()) if args.json else "\n".join(done.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
