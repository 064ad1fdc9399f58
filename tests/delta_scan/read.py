"""Runs SQL in the DuckDB of .venv-delta, whose extension delta reads Delta tables by delta-kernel.

On standard input is a JSON object: `before`, statements to run first, and `queries`, by the file
that the rows of each go to, as an Arrow stream. What cannot be run ends it with a traceback.
"""

import json
import sys
from pathlib import Path

import duckdb
import duckdb_extension_delta
import pyarrow as pa

wanted = json.load(sys.stdin)
found = Path(duckdb_extension_delta.__file__).parent.glob("extensions/*/delta.duckdb_extension")
connection = duckdb.connect()
connection.load_extension(str(next(found)))
for statement in wanted["before"]:
    connection.execute(statement)
for path, query in wanted["queries"].items():
    rows = connection.execute(query).to_arrow_table()
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows)
