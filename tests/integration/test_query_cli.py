"""`varve query` and `varve sql` as a person runs them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.tables import WrittenTables
from varve.cli.main import main

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


def test_sql_shows_the_tables_and_views_there_are(varve):
    _, out, _ = varve("sql", "SHOW TABLES", "--format", "csv")

    assert {"raw", "metrics_1m", "samples", "series", "quarantine"} <= set(out.split())
