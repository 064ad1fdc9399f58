"""POST /api/v1/sql: what it answers, and that hostile statements read, write, reach nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace

import psutil
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import fill, service_over
from tests.tables import WrittenTables
from tests.unit.query.test_moved_samples import BEGIN, DAYS, OF_A_DAY, Followed
from varve.api.app import create_app
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.model.errors import BadRequest
from varve.model.window import DAY_MS
from varve.query.memory import MemoryBudget, Reservation
from varve.query.sql_processes import Bounds, SqlProcesses
from varve.query.sql_statement import require_select

SECRET = "s3cret-of-the-machine"
NUMBERS = "(SELECT a.range FROM range(100000) a, range(100000) b, range(100000) c)"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.1)
    return tables


@pytest.fixture(scope="module")
def service(tables):
    service = service_over(tables)
    service.sql = SqlProcesses(tables.store, Bounds(memory_mb=256, rows=20_000, megabytes=1))
    yield service
    service.sql.close()


@pytest.fixture(scope="module")
def client(service):
    return TestClient(create_app(service))


def ask(client, query, accept="application/json", **more):
    return client.post("/api/v1/sql", data={"query": query, **more}, headers={"Accept": accept})


def test_rows_come_as_json_with_their_types_and_the_versions_read(client):
    answer = ask(
        client,
        "SELECT metric, tags['instance'] AS host, count(*) AS n, 'NaN'::DOUBLE AS odd,"
        " max(timestamp) AS at"
        " FROM raw WHERE metric = 'shop_requests_total' GROUP BY ALL ORDER BY host",
    ).json()

    names = [(c["name"], c["type"]) for c in answer["data"]["columns"]]
    assert names[:4] == [
        ("metric", "VARCHAR"),
        ("host", "VARCHAR"),
        ("n", "BIGINT"),
        ("odd", "DOUBLE"),
    ]
    assert [row[1] for row in answer["data"]["rows"]] == ["h0", "h1", "h2", "h3"]
    assert answer["data"]["rows"][0][3] == "NaN"
    assert answer["data"]["rows"][0][4].endswith("Z")
    assert answer["provenance"]["snapshot"]
    assert answer["provenance"]["complete_until"] is not None


def test_rows_come_as_an_arrow_stream_for_who_accepts_that(client):
    answer = ask(client, "FROM series", "application/vnd.apache.arrow.stream")
    counted = ask(client, "SELECT count(*) FROM series").json()

    table = pa.ipc.open_stream(answer.content).read_all()
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert answer.headers["varve-snapshot"]
    assert table.num_rows == counted["data"]["rows"][0][0] > 0


def test_an_earlier_snapshot_is_read_as_of_it(client, tables):
    query = "SELECT count(*) FROM samples"
    before = ask(client, query).json()
    token = client.get("/api/v1/query?query=1").json()["provenance"]["snapshot"]
    tables.put([(1, 1, 1.0)])

    assert ask(client, query, as_of=token).json()["data"] == before["data"]
    assert ask(client, query).json()["data"]["rows"][0][0] == before["data"]["rows"][0][0] + 1
    refused = ask(client, "FROM quarantine", as_of=token)
    assert (refused.status_code, "as_of" in refused.json()["error"]) == (400, True)


def test_rows_of_colder_roots_are_read_too_and_as_of_a_snapshot(tmp_path):
    followed = Followed(tmp_path)
    followed.move(5)
    versions = followed.reader.view.provenance.versions
    followed.do(Deletion(followed.store, Wanted(("up",), BEGIN, BEGIN + DAY_MS, by="test")))
    processes = SqlProcesses(followed.store, Bounds(memory_mb=256, rows=100, megabytes=1))

    def count(versions):
        text = "SELECT count(*) FROM samples"
        answer = processes.run(
            text, "json", versions, seconds=60, check=lambda: None, take=lambda _: None
        )
        return json.loads(answer.content)["rows"], dict(answer.versions)

    before, said = count(versions)
    now, _ = count({})
    processes.close()
    assert (before, now) == ([[DAYS * OF_A_DAY]], [[(DAYS - 1) * OF_A_DAY]])
    assert said.items() <= versions.items()
    assert {"samples", "colder:samples", "colder:colder:samples"} == said.keys()


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "no statement"),
        ("SELECT", 400, "without selection list"),
        ("SELECT nothing FROM raw", 400, "nothing"),
        ("SELECT 1; SELECT 2", 400, "2 statements"),
        ("SELECT '\0'", 400, "UTF-8"),
        ("FROM range(30000)", 422, "query.sql_max_rows = 20,000"),
        ("SELECT repeat('x', 2000000)", 422, "query.sql_max_mb = 1"),
        ("SELECT list(range) FROM range(200000000)", 422, "query.sql_memory_mb = 256"),
        ("SELECT 'x'::INTEGER", 422, "x"),
        ("SELECT 1" + " + 1" * 20_000, 400, ""),
    ],
)
def test_a_statement_that_cannot_be_answered_is_an_error_that_says_why(
    client, query, status, words
):
    answer = ask(client, query)

    assert (answer.status_code, answer.json()["status"]) == (status, "error")
    assert words in answer.json()["error"]


def workers():
    return {
        child.pid
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "varve.query.sql_worker" in child.cmdline()
    }


def within(deadline_s, condition):
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


def test_a_statement_over_its_time_is_killed(client):
    began = time.monotonic()
    answer = ask(client, f"SELECT count(*) FROM {NUMBERS}", timeout="1s")

    assert (answer.status_code, answer.json()["errorType"]) == (503, "timeout")
    assert time.monotonic() - began < 20
    within(20, lambda: len(workers()) <= 1)  # the one that waits for the next statement


def test_one_that_is_cancelled_is_killed_and_others_are_told_to_come_again(service):
    cancelled = threading.Event()
    options = replace(service.options, cancelled=cancelled)
    sql = service.sql
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sql, "_places", threading.BoundedSemaphore(1))

        def run(query="SELECT 1"):
            with Reservation(MemoryBudget(1 << 30)) as memory:
                return sql.run(
                    query, "json", {}, seconds=60, check=options.check_running, take=memory.take
                )

        errors = []

        def run_long():
            try:
                run(f"SELECT count(*) FROM {NUMBERS}")
            except Exception as err:  # noqa: BLE001
                errors.append(type(err).__name__)

        long = threading.Thread(target=run_long)
        long.start()
        within(20, lambda: sql._places._value == 0)
        with pytest.raises(Exception, match="query.sql_at_once"):
            run()
        cancelled.set()
        began = time.monotonic()
        long.join(20)
        assert errors == ["QueryCanceledError"]
        assert time.monotonic() - began < 5
        within(20, lambda: len(workers()) <= 1)


FILE, WRITTEN, PORT = "@FILE@", "@WRITTEN@", "@PORT@"
URL = f"http://127.0.0.1:{PORT}/x.csv"
READERS = [
    "read_csv",
    "read_csv_auto",
    "sniff_csv",
    "read_text",
    "read_blob",
    "read_parquet",
    "parquet_scan",
    "parquet_metadata",
    "parquet_schema",
    "parquet_file_metadata",
    "parquet_kv_metadata",
    "read_json",
    "read_json_auto",
    "read_json_objects",
    "read_ndjson",
    "read_ndjson_auto",
    "glob",
]
ARGUMENTS = [
    "arrow_scan(1,2,3)",
    "arrow_scan_dumb(1,2,3)",
    "pandas_scan(1)",
    "python_map_function(1)",
]
HOSTILE = [
    *(f"SELECT * FROM {reader}('{FILE}')" for reader in READERS),
    *(f"SELECT * FROM {reader}('{URL}')" for reader in READERS),
    *(f"SELECT * FROM {call}" for call in ARGUMENTS),
    *(f"SELECT (SELECT count(*) FROM {call})" for call in ARGUMENTS),
    f"FROM '{FILE}'",
    f'FROM "{FILE}"',
    f"FROM '{URL}'",
    f"SELECT * FROM query('FROM ''{FILE}''')",
    f"SELECT * FROM query('COPY samples TO ''{WRITTEN}''')",
    "SELECT * FROM query('SELECT * FROM arr' || 'ow_scan(1,2,3)')",
    f"SELECT E'\\'', * FROM query('FROM ''{FILE}''') --'",
    f"SELECT * FROM \"query\"/**/('FROM ''{FILE}''')",
    f"WITH x AS (SELECT * FROM read_text('{FILE}')) SELECT * FROM x",
    f"SELECT * FROM samples WHERE EXISTS (FROM read_text('{FILE}'))",
    f"SELECT (SELECT content FROM read_text('{FILE}'))",
    f"SELECT * FROM samples UNION ALL SELECT 1, 2, 3, content FROM read_text('{FILE}')",
    f"PIVOT read_csv('{FILE}') ON x",
    f"SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM ''{FILE}'''))",
    "SELECT getenv('VARVE_TEST_SECRET')",
    "SELECT GetEnv('VARVE_TEST_SECRET')",
    "SELECT list_transform(['VARVE_TEST_SECRET'], x -> getenv(x))",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_logs()",
    "SELECT * FROM pragma_database_list()",
    "SELECT current_setting('home_directory')",
    f"COPY samples TO '{WRITTEN}'",
    f"COPY (SELECT 1) TO '{WRITTEN}' (FORMAT parquet)",
    f"COPY samples FROM '{FILE}'",
    f"EXPORT DATABASE '{WRITTEN}'",
    f"IMPORT DATABASE '{WRITTEN}'",
    f"ATTACH '{WRITTEN}'",
    f"ATTACH '{FILE}' AS other",
    "ATTACH ':memory:' AS other",
    f"ATTACH 'postgres://127.0.0.1:{PORT}/x' (TYPE postgres)",
    "INSTALL httpfs",
    "LOAD httpfs",
    f"LOAD '{FILE}'",
    f"INSTALL x FROM '{URL}'",
    "FORCE INSTALL httpfs",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "PRAGMA enable_object_cache",
    "PRAGMA database_list",
    "SET VARIABLE x = 1",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO m(x) AS x",
    "CREATE SECRET s (TYPE s3)",
    f"CREATE PERSISTENT SECRET s IN '{WRITTEN}' (TYPE s3)",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS ENUM ('x')",
    "DROP VIEW raw",
    "DROP TABLE samples",
    "ALTER VIEW raw RENAME TO x",
    "INSERT INTO samples VALUES (1, 1, 1)",
    "UPDATE samples SET value = 0",
    "DELETE FROM samples",
    "TRUNCATE samples",
    "MERGE INTO samples USING samples s ON true WHEN MATCHED THEN DELETE",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    f"EXPLAIN ANALYZE COPY samples TO '{WRITTEN}'",
    f"EXPLAIN FROM '{FILE}'",
    "USE memory",
    f"SELECT 1; COPY samples TO '{WRITTEN}'",
    f"SELECT 1 --\n; COPY samples TO '{WRITTEN}'",
    f"/* */ ; COPY samples TO '{WRITTEN}'",
    f"SELECT count(*) FROM {NUMBERS}",
    "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
    "SELECT repeat('x', 4000000000)",
    "SELECT * FROM test_all_types()",
    "SELECT * FROM sql_auto_complete('SEL')",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT '" + "x" * 5_000_000 + "' FROM nothing",
]


def test_hostile_statements_read_write_and_reach_nothing(client, tmp_path, monkeypatch):
    """Each is refused before it is run, or by the process that may nothing, or at a bound."""
    assert len(HOSTILE) >= 100
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = folder / "secret.csv"
    secret.write_text(f"x\n{SECRET}\n")
    monkeypatch.setenv("VARVE_TEST_SECRET", SECRET)
    monkeypatch.chdir(folder)
    before = client.get("/api/v1/query?query=1").json()["provenance"]["snapshot"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        names = {
            FILE: str(secret),
            WRITTEN: str(folder / "written"),
            PORT: str(listener.getsockname()[1]),
        }
        ran = []
        for statement in HOSTILE:
            for mark, name in names.items():
                statement = statement.replace(mark, name)  # noqa: PLW2901
            with contextlib.suppress(BadRequest):
                require_select(statement)
                ran.append(statement)
        for statement in ran:
            answer = ask(client, statement, timeout="1s")
            assert answer.status_code in (400, 422, 503), statement
            assert answer.json()["errorType"] in ("bad_data", "execution", "timeout"), statement
            assert SECRET not in answer.text
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert len(ran) < 15, ran  # most do not get that far
    assert [path.name for path in folder.iterdir()] == ["secret.csv"]
    assert client.get("/api/v1/query?query=1").json()["provenance"]["snapshot"] == before
    assert json.loads(ask(client, "SELECT 1").text)["data"]["rows"] == [[1]]
