"""Grafana before the query service: the dashboards of docker/grafana, and what its Prometheus data
source sends while somebody explores, builds a query and looks at a dashboard.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.integration.api_service import served, service_over
from tests.tables import WrittenTables
from varve.collectors.host import HostCollector
from varve.model.identity import define
from varve.promql.syntax import ast
from varve.promql.syntax.parser import parse
from varve.promql.syntax.tree import walk

# The first answer may have to wait for kernels to be compiled.
HTTP = httpx.Client(timeout=120)

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docker" / "grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in GRAFANA.glob("dashboards/*.json")}
DOCUMENTED = re.findall(
    r"^\| (varve_\w+) \| (\w+) \| ([\w, ]*)\| ",
    (ROOT / "docs/operations.md").read_text(),
    re.MULTILINE,
)
FAMILIES = {"histogram": ("_bucket", "_count", "_sum")}
STEP_S = 15


def panels():
    return [
        pytest.param(panel, target["expr"], id=f"{name}-{panel['title']}-{target['refId']}")
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def substituted(expression):
    for variable, value in (("$__rate_interval", "1m"), ("$instance", "h0")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@pytest.fixture(scope="module")
def now_s():
    return int(time.time()) // STEP_S * STEP_S


@pytest.fixture(scope="module")
def series(now_s):
    """Everything that Varve says of itself, and this machine as the collector measures it."""
    found = []
    for name, kind, labels in DOCUMENTED:
        for suffix in FAMILIES.get(kind, ("",)):
            tags = {label.strip(): "x" for label in labels.split(",") if label.strip()}
            tags |= {"job": "varve", "instance": "h0"}
            if "table" in tags:
                tags["table"] = "quarantine"
            if "status" in tags:
                tags["status"] = "503"
            bounds = ({"le": le} for le in ("0.1", "1", "+Inf")) if suffix == "_bucket" else ({},)
            found += [(define(name + suffix, tags | bound), None) for bound in bounds]
    measured = HostCollector("h0").scrape(now_s * 1000)
    found += [(define(s.series.metric, dict(s.series.tags)), s.value) for s in measured]
    return found


@pytest.fixture(scope="module")
def names(series):
    return {definition.metric for definition, _ in series}


@pytest.fixture(scope="module")
def url(tmp_path_factory, series, now_s):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define({d.series_id: d for d, _ in series}.values(), now_s * 1000)
    times = range(now_s - 600, now_s + 1, STEP_S)
    tables.put(
        (
            (
                d.series_id,
                ts * 1000,
                (ts - now_s) / 10 + 700 if value is None else value + (ts - now_s) / 1e4,
            )
            for d, value in series
            for ts in times
        ),
        complete_ms=now_s * 1000,
    )
    with served(service_over(tables, now_ms=now_s * 1000)) as url:
        yield url


@pytest.mark.parametrize(("panel", "expression"), panels())
def test_a_panel_asks_for_metrics_that_there_are_and_is_answered(
    url, now_s, names, panel, expression
):
    query = substituted(expression)
    asked = {
        matcher.value
        for node in walk(parse(query))
        if isinstance(node, ast.VectorSelector)
        for matcher in node.matchers
        if matcher.name == "__name__"
    }
    assert asked
    # Of a machine without disks, as in a container, there is nothing to see.
    there_may_be = ("node_disk_", "node_filesystem_")
    assert all(name in names or name.startswith(there_may_be) for name in asked)

    answer = HTTP.post(
        f"{url}/api/v1/query_range",
        data={"query": query, "start": now_s - 300, "end": now_s, "step": STEP_S},
    ).json()

    assert answer["status"] == "success"
    assert not answer.get("warnings")
    shown = bool(answer["data"]["result"])
    assert shown or not asked <= names or " > 0" in query or " < 1e9" in query or "== 0" in query


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_dashboard_can_be_provisioned(name):
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    places = set()
    for panel in board["panels"]:
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, f"{panel['title']} covers another"
        places |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len(set(ids)) == len(ids)
    assert board["uid"]
    assert {link["url"].removeprefix("/d/") for link in board["links"]} <= {
        other["uid"] for other in BOARDS.values()
    }


def test_the_provisioning_files_name_a_prometheus_and_the_folder_of_the_dashboards():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/varve.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/varve.yaml").read_text())[
        "providers"
    ]

    assert (source["type"], source["access"], source["jsonData"]["httpMethod"]) == (
        "prometheus",
        "proxy",
        "POST",
    )
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def variables():
    return [
        pytest.param(variable["definition"], id=f"{name}-{variable['name']}")
        for name, board in BOARDS.items()
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]


@pytest.mark.parametrize("definition", variables())
def test_a_variable_lists_its_values(url, now_s, definition):
    match, label = re.fullmatch(r"label_values\((.+), (\w+)\)", definition).groups()

    answer = HTTP.get(
        f"{url}/api/v1/label/{label}/values",
        params={"match[]": match, "start": now_s - 3600, "end": now_s},
    ).json()

    assert answer["data"] == ["h0"]


REPLAYED = [
    # The data source is saved and tested; its kind is guessed.
    ("POST", "query", {"query": "1+1", "time": "NOW"}, lambda d: d["resultType"] == "scalar"),
    ("GET", "status/buildinfo", {}, lambda d: bool(d["version"])),
    # Explore: the builder's lists of metrics, labels and values, and what it knows of metrics.
    ("GET", "metadata", {"limit": "40000"}, lambda d: isinstance(d, dict)),
    ("GET", "label/__name__/values", {"start": "AGO", "end": "NOW"}, lambda d: "up" in d),
    (
        "GET",
        "label/__name__/values",
        {"start": "AGO", "end": "NOW", "limit": "40000", "match[]": '{__name__=~".*cpu.*"}'},
        lambda d: "node_cpu_seconds_total" in d,
    ),
    ("GET", "labels", {"start": "AGO", "end": "NOW"}, lambda d: {"__name__", "job"} <= set(d)),
    (
        "POST",
        "labels",
        {"start": "AGO", "end": "NOW", "match[]": '{__name__="node_cpu_seconds_total"}'},
        lambda d: d == ["__name__", "cpu", "instance", "job", "mode"],
    ),
    (
        "GET",
        "label/mode/values",
        {"start": "AGO", "end": "NOW", "match[]": 'node_cpu_seconds_total{job="node"}'},
        lambda d: "idle" in d,
    ),
    (
        "GET",
        "series",
        {"start": "AGO", "end": "NOW", "match[]": 'node_load1{instance="h0"}'},
        lambda d: d == [{"__name__": "node_load1", "instance": "h0", "job": "node"}],
    ),
    # A range is drawn, a table filled, exemplars looked for.
    (
        "POST",
        "query_range",
        {
            "query": 'rate(node_cpu_seconds_total{mode="idle"}[1m0s])',
            "start": "AGO",
            "end": "NOW",
            "step": "15",
        },
        lambda d: d["resultType"] == "matrix" and d["result"],
    ),
    ("POST", "query", {"query": "node_load1", "time": "NOW.123"}, lambda d: len(d["result"]) == 1),
    (
        "POST",
        "query_exemplars",
        {"query": "varve_query_request_duration_seconds_bucket", "start": "AGO", "end": "NOW"},
        lambda d: d == [],
    ),
    # query_result() of a variable, and its time span as Grafana writes it.
    ("GET", "query", {"query": "count by (job) (up)", "time": "ISO"}, lambda d: bool(d["result"])),
    # Alerting and its list of rules.
    ("GET", "rules", {}, lambda d: d == {"groups": []}),
    ("GET", "alerts", {}, lambda d: d == {"alerts": []}),
]


@pytest.mark.parametrize(("method", "path", "given", "holds"), REPLAYED)
def test_what_grafana_sends_is_answered_as_prometheus_does(url, now_s, method, path, given, holds):
    iso = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now_s))
    marks = {"NOW": str(now_s), "AGO": str(now_s - 300), "ISO": iso, "NOW.123": f"{now_s}.123"}
    form = {name: marks.get(value, value) for name, value in given.items()}
    sent = {"data": form} if method == "POST" else {"params": form}

    answer = HTTP.request(
        method,
        f"{url}/api/v1/{path}",
        headers={"X-Grafana-Referer": "http://g", "X-Dashboard-Uid": "varve"},
        **sent,
    )

    assert answer.status_code == 200
    assert answer.json()["status"] == "success"
    assert holds(answer.json()["data"])
