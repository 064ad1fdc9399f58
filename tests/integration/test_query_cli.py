"""`varve query` and `varve sql` as a person runs them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tests.integration.api_service import NOW_MS, SHOP, fill, served, service_over
from tests.tables import WrittenTables
from varve.cli.main import main
from varve.model.identity import define

AT = ["--at", str(NOW_MS // 1000)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.1)
    return tables


@pytest.fixture
def varve(tables, tmp_path, monkeypatch, capsys):
    """Runs a command over the tables; (status, stdout, stderr)."""
    monkeypatch.setenv("VARVE_STORAGE__ROOT", tables.store.root)
    monkeypatch.setenv("VARVE_HOME", str(tmp_path))
    monkeypatch.setenv("VARVE_QUERY__PORT", "1")  # nobody listens there

    def run(*arguments):
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def url(tables):
    with served(service_over(tables)) as url:
        yield url


def test_a_query_prints_a_line_a_series(varve, url):
    code, out, err = varve("query", 'shop_requests_total{route="/r0"}', *AT, "--url", url)

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split('instance="')[1][:2] for line in lines] == ["h0", "h2"]
    assert lines[0].endswith('route="/r0"}  8640')


def test_without_a_service_it_reads_the_tables_and_says_so(varve, url):
    direct = varve("query", "sum(shop_requests_total)", *AT)
    served = varve("query", "sum(shop_requests_total)", *AT, "--url", url)

    assert direct[0] == 0
    assert direct[1] == served[1] == "{}  86400\n"
    assert "no query service at http://127.0.0.1:1: reading" in direct[2]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"])
def test_no_proxy_is_asked_for_a_service_of_this_machine(varve, url, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert varve("query", "sum(shop_requests_total)", *AT, "--url", url) == (0, "{}  86400\n", "")


@contextmanager
def answering(bytes_sent):
    """The address of something that sends these bytes to whoever asks, and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1 << 16)
            self.request.sendall(bytes_sent)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no query service answers at"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no query service answers at"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "no query service answers at"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "answers HTTP 200, but not as a query service"),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", "answers HTTP 200, but not as a query service"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "but not as a query service"),
        (b"HTTP/1.1 502 Bad\r\n\r\nno", "answers HTTP 502, but not as a query service"),
    ],
)
def test_what_is_no_query_service_is_one_line(varve, sent, words):
    with answering(sent) as address:
        code, out, err = varve("query", "up", *AT, "--url", address)

    assert (code, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("address", ["http://", "http://[::1", "http://127.0.0.1:x", "http:///a"])
def test_an_address_that_is_none_is_one_line(varve, address):
    code, out, err = varve("query", "up", *AT, "--url", address)

    assert (code, out) == (1, "")
    assert address in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--range", "1h", "--step", "0"], "--step 0 is not above zero"),
        (["--range", "1h", "--step", "0s"], "--step"),
        (["--range", "1h", "--step=-1m"], "--step"),
        (["--range", "1h", "--step", "0.1ms"], "--step"),
        (["--range", "0"], "--range 0 is not above zero"),
        (["--range", "soon"], "--range: "),
        (["--step", "1m"], "give --range too"),
        (["--at", "soon"], "--at: "),
    ],
)
def test_times_that_mean_nothing_are_refused(varve, options, error):
    code, out, err = varve("query", "up", *options)

    assert (code, out) == (1, "")
    assert error in err
    assert len(err.splitlines()) == 1


def test_a_range_is_plotted_with_a_legend(varve, url):
    code, out, _ = varve("query", "--range", "1h", "shop_requests_total", *AT, "--url", url)

    assert code == 0
    assert any("\u2800" < cell <= "\u28ff" for cell in out)
    assert out.count("shop_requests_total{") == 4


def test_json_is_the_answer_as_it_came(varve, url):
    code, out, _ = varve("query", "--json", "1 + 1", *AT, "--url", url)

    assert code == 0
    assert json.loads(out)["data"] == {"resultType": "scalar", "result": [NOW_MS / 1000, "2"]}


def test_a_plan_says_what_was_read_with_and_without_a_service(varve, url):
    command = ("query", "--explain", "--range", "1h", "sum(rate(shop_requests_total[5m]))", *AT)

    code, served, _ = varve(*command, "--url", url)
    direct = varve(*command)[1]

    assert code == 0
    assert served == direct
    assert "shop_requests_total" in served
    assert "4 series" in served


@pytest.mark.parametrize("span", [[], ["--range", "5m"]])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("node_load2", 'unknown metric "node_load2", but there is "node_load1"'),
        ("node_load1 > 100", "no series"),
    ],
)
def test_an_empty_answer_says_why_with_and_without_a_service(varve, url, span, query, said):
    at = ["--at", str(NOW_MS // 1000 - 660)]
    served = varve("query", query, *span, *at, "--url", url)
    direct = varve("query", query, *span, *at)

    assert served[:2] == direct[:2] == (0, "")
    assert said in served[2]
    assert direct[2].endswith(served[2])
    assert len(served[2].splitlines()) == 1


def test_an_error_points_at_its_place(varve, url):
    code, out, err = varve("query", "sum(up{a=1})", *AT, "--url", url)

    assert (code, out) == (1, "")
    said, query, mark = err.splitlines()
    assert "1:10: parse error" in said
    assert query[mark.index("^")] == "1"


def test_an_error_is_the_same_without_a_service(varve):
    code, _, err = varve("query", "sum(up{a=1})", *AT)

    assert code == 1
    assert "1:10: parse error" in err


def test_a_service_that_is_named_must_answer(varve):
    code, _, err = varve("query", "up", "--url", "http://127.0.0.1:1")

    assert code == 1
    assert "no query service answers at http://127.0.0.1:1" in err


def test_sql_prints_csv_json_and_a_table(varve):
    query = "SELECT metric, count(value) AS n, max(tags) AS tags FROM raw GROUP BY ALL ORDER BY ALL"

    as_csv = list(csv.DictReader(io.StringIO(varve("sql", query, "--format", "csv")[1])))
    as_json = json.loads(varve("sql", query, "--format", "json")[1])
    table = varve("sql", query)[1]

    assert [row["metric"] for row in as_csv] == ["disk.free", "node_load1", "shop_requests_total"]
    assert [row["n"] for row in as_json] == [int(row["n"]) for row in as_csv]
    assert as_json[1]["tags"] == {"instance": "h0", "job": "node"}
    assert "shop_requests_total" in table


def test_sql_writes_what_json_cannot_say_as_text(varve):
    query = "SELECT DISTINCT value FROM raw WHERE metric = 'disk.free' ORDER BY value"

    _, out, _ = varve("sql", query, "--format", "json")

    assert json.loads(out) == [{"value": "+Inf"}, {"value": "NaN"}]


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT * FROM nowhere", "SELECT nothing FROM raw"])
def test_sql_that_is_wrong_is_one_error(varve, query):
    code, out, err = varve("sql", query)

    assert (code, out) == (1, "")
    assert err.startswith("varve sql: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("query", ["", " ", ";", "-- nothing", "/* nothing */;"])
def test_sql_without_a_statement_is_one_error(varve, query):
    code, out, err = varve("sql", query)

    assert (code, out) == (1, "")
    assert err == "varve sql: there is no statement in this SQL\n"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_the_session_of_sql_is_utc_wherever_the_machine_is(tables, tmp_path, zone):
    query = """
        SELECT count(*) AS n, now()::VARCHAR AS now, TIMESTAMPTZ '2026-11-22 09:00:00+00' AS at
        FROM raw WHERE timestamp > TIMESTAMPTZ '2026-11-22 09:00:00+00' - INTERVAL 5 MINUTE"""
    environment = os.environ | {
        "TZ": zone,
        "VARVE_STORAGE__ROOT": tables.store.root,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "varve.cli", "sql", query, "--format", "json"],
        env=environment, capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip

    (row,) = json.loads(ran.stdout)
    assert row["n"] == 5 * 20
    assert row["now"].endswith("+00")
    assert row["at"] == "2026-11-22T09:00:00+00:00"


def test_sql_reaches_nothing_but_the_tables(varve, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("password\n")
    hidden = pa.table({"x": [1]})  # noqa: F841 - what a replacement scan would find
    attempts = [
        f"FROM read_csv('{secret}')",
        f"FROM '{secret}'",
        f"FROM read_text('{secret}')",
        f"FROM glob('{tmp_path}/*')",
        f"COPY (SELECT 1) TO '{tmp_path}/written.csv'",
        f"ATTACH '{tmp_path}/written.db'",
        f"EXPORT DATABASE '{tmp_path}/written'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FROM hidden",
        "SET memory_limit = '100GB'",
        "SET TimeZone = 'Europe/Berlin'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
    ]

    results = [varve("sql", attempt) for attempt in attempts]

    assert [(code, out) for code, out, _ in results] == [(1, "")] * len(attempts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT '--' AS mark, count(*) AS n FROM samples",
        'SELECT count(*) AS n, 1 AS "--" FROM samples',
        "SELECT $$--$$ AS mark, count(*) AS n FROM samples",
        "SELECT '/*' AS mark, count(*) AS n FROM samples -- */",
        "SELECT count(*) AS n /* -- */ FROM samples",
        'SELECT count(*) AS n FROM "samples"',
        "SELECT count(*) AS n FROM query_table('samples')",
        "SELECT 'it''s --' AS mark, count(*) AS n FROM SAMPLES",
    ],
)
def test_marks_of_comments_in_texts_and_names_hide_no_table(varve, query):
    code, out, err = varve("sql", query, "--format", "json")

    assert (code, err) == (0, "")
    assert json.loads(out)[0]["n"] > 0


@pytest.mark.parametrize("form", ["csv", "json"])
def test_bytes_are_text_where_they_are_utf8(varve, form):
    query = r"SELECT encode('Köln') AS text, '\xff\x00'::BLOB AS bytes"

    _, out, _ = varve("sql", query, "--format", form)

    wanted = {
        "csv": "text,bytes\nKöln,\\xff00\n",
        "json": '[{"text": "Köln", "bytes": "\\\\xff00"}\n]\n',
    }
    assert out == wanted[form]


@pytest.mark.parametrize(
    ("encoding", "code", "words"),
    [
        ("utf-8", 0, "Köln"),
        ("utf-8-sig", 0, "Köln"),
        ("latin-1", 1, "standard input is not in UTF-8 (line 2 has the byte 0xF6)"),
        ("utf-16", 1, "standard input is in UTF-16, not in UTF-8"),
    ],
)
def test_sql_reads_standard_input_as_utf8(varve, monkeypatch, encoding, code, words):
    text = io.BytesIO("SELECT\n'Köln' AS name".encode(encoding))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(text, "latin-1"))

    answered = varve("sql", "-", "--format", "csv")

    assert answered[0] == code
    assert words in answered[1 if code == 0 else 2]
    assert len(answered[2].splitlines()) == code


def test_sql_that_is_no_utf8_is_one_line(varve):
    assert varve("sql", "SELECT '\udcff'") == (1, "", "varve sql: this SQL is not in UTF-8\n")


@pytest.mark.parametrize("long", ["x" * 100_000, "|".join(f"m{n}" for n in range(20_000))])
@pytest.mark.parametrize("query", ["{long}", 'node_load1{{job=~"{long}"}}', '{{"{long}"="a"}}'])
def test_why_an_answer_is_empty_is_said_shortly(varve, long, query):
    name = long if "|" not in long or "=~" in query else "{" + f'"{long}"' + "}"
    code, out, err = varve("query", query.format(long=name if query == "{long}" else long), *AT)

    assert (code, out) == (0, "")
    said = err.splitlines()[-1]
    assert said.startswith("PromQL info: ")
    assert len(said) < 1_000


def test_sql_ends_at_its_time_and_its_memory(varve):
    late = varve("sql", "SELECT count(*) FROM range(100_000_000_000)", "--timeout", "100ms")
    large = varve("sql", "SELECT list(range) FROM range(100_000_000)", "--memory", "64")

    assert (late[0], late[2]) == (1, "varve sql: stopped after 0.1 s: --timeout gives it longer\n")
    assert large[0] == 1
    assert "over 64 MiB: --memory gives it more" in large[2]


@pytest.mark.parametrize("query", ["SHOW TABLES", "SELECT 1", "FROM raw"])
def test_a_home_that_is_not_there_is_an_error_of_sql(query, capsys, monkeypatch):
    monkeypatch.delenv("VARVE_STORAGE__ROOT", raising=False)

    assert main(["sql", query, "--home", "/nonexistent"]) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no home /nonexistent" in said.err
    assert not Path("/nonexistent").exists()


def test_sql_shows_the_tables_and_views_there_are(varve):
    _, out, _ = varve("sql", "SHOW TABLES", "--format", "csv")

    assert {"raw", "metrics_1m", "samples", "series", "quarantine"} <= set(out.split())


@pytest.mark.parametrize(
    "command",
    [
        ["query", '{__name__=~".+"}', *AT],
        ["query", "--range", "5m", '{__name__=~".+"}', *AT],
        ["query", "--json", '{__name__=~".+"}', *AT],
        ["query", "--explain", '{"evil\x1b]0;title\x07"}', *AT],
        ["query", "'a\x9bb'", *AT],
        ["sql", "SELECT metric, tags, value FROM raw"],
        ["sql", "SELECT metric, tags, value FROM raw", "--format", "csv"],
        ["sql", "SELECT metric, tags, value FROM raw", "--format", "json"],
        ["sql", 'SELECT "\x1b[31m" FROM raw'],
        ["cardinality"],
    ],
)
def test_no_name_commands_the_terminal(command, tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    evil = define("evil\x1b]0;title\x07", {"la\x9b31mbel": "va\u202elue\n"})
    tables.define([evil], NOW_MS)
    tables.put([(evil.series_id, NOW_MS, 1.0)], complete_ms=NOW_MS)
    reader, writer = os.openpty()

    ran = subprocess.Popen(
        [sys.executable, "-m", "varve.cli", *command, "--home", str(tmp_path)],
        env=os.environ | {"VARVE_QUERY__PORT": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=writer, stdout=writer, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    shown = b""
    while piece := read(reader):
        shown += piece
    ran.wait(60)
    os.close(reader)

    text = shown.decode()
    own_colours = re.sub(r"\x1b\[\d*m", "", text) if "--range" in command else text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", own_colours)
    assert re.search(r"\\(u001b|u009b|x1b|e)", text)


def read(descriptor):
    """What comes next from a terminal, nothing once its last writer is gone."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""


def test_a_tier_and_an_earlier_snapshot_can_be_asked_for(tmp_path, monkeypatch, capsys):
    rolled = WrittenTables(str(tmp_path / "tables"))
    fill(rolled, days=0.1)
    rolled.roll_up()
    monkeypatch.setenv("VARVE_STORAGE__ROOT", rolled.store.root)
    monkeypatch.setenv("VARVE_HOME", str(tmp_path))
    monkeypatch.setenv("VARVE_QUERY__PORT", "1")
    at = ["--at", str((NOW_MS - 1_200_000) // 300_000 * 300)]
    command = ["query", "--json", "sum(count_over_time(shop_requests_total[5m]))", *at]

    def run(*options):
        assert main([*command, *options]) == 0
        return json.loads(capsys.readouterr().out)

    with served(service_over(rolled)) as url:
        answers = [run("--tier", "5m"), run("--tier", "5m", "--url", url)]
    token = answers[0]["provenance"]["snapshot"]
    rolled.put([])
    rolled.put([(SHOP[0].series_id, NOW_MS // 300_000 * 300_000 - 1_290_001, 1.0)])
    with served(service_over(rolled)) as url:
        answers += [run("--as-of", token), run("--as-of", token, "--url", url)]

    assert [a["provenance"]["tier"] for a in answers] == ["5m", "5m", "raw", "raw"]
    assert {a["provenance"]["snapshot"] for a in answers} == {token}
    assert [a["data"] for a in answers] == [answers[0]["data"]] * 4
    assert run()["data"] != answers[0]["data"]
    assert main([*command, "--as-of", "1"]) == 1
