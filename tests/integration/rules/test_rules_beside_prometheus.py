"""The same rules over the same samples in a real Prometheus: what /api/v1/rules and /alerts say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.promql import prometheus
from varve.rules import api_json
from varve.rules.alerts import Environment
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.instant import Sample
from varve.rules.label_sets import labels_of
from varve.rules.rule_file import parse_rule_file
from varve.rules.series_buffer import SeriesBuffer

pytestmark = pytest.mark.skipif(bool(prometheus.missing()), reason=prometheus.missing())

PATIENCE_S = 60
RULES = """
groups:
- name: shapes
  interval: 1s
  limit: 50
  rules:
  - record: site:kiln:sum
    expr: sum by (site) (kiln)
    labels: {team: x}
  - alert: Hot
    expr: kiln > 2
    labels: {severity: page, at: '{{ $labels.site }}', kiln: "{{ $value }}"}
    annotations:
      text: >-
        {{ $labels.host }} is at {{ $value | humanize }}{{ range query "sort(kiln)" }},
        {{ .Labels.host }}={{ .Value | printf "%.1f" }}{{ end }};
        {{ with query "absent(kiln)" }}none{{ else }}some{{ end }}
      first: >-
        {{ query "topk(1, kiln)" | first | label "host" }} {{ 1234567.0 | humanize1024 }}
        {{ "a b" | title }} {{ 90.0 | humanizeDuration }} {{ 0.123 | humanizePercentage }}
      missing: '{{ $labels.nothing }} {{ .Labels.host }}'
  - alert: Slow
    expr: kiln > 1
    for: 1h
  - alert: Kept
    expr: kiln > 100
    keep_firing_for: 5m
  - alert: Fails
    expr: kiln + on (site) kiln
"""
KILN = {("a", "north"): 3.25, ("b", "north"): 1.5, ("c", "south"): 1e6}
# Those of evaluations, and of the clock.
NOT_COMPARED = {"evaluationTime", "lastEvaluation", "file", "activeAt", "lastError"}


def comparable(value: Any) -> Any:
    if isinstance(value, list):
        return sorted((comparable(one) for one in value), key=repr)
    if isinstance(value, dict):
        return {k: comparable(v) for k, v in sorted(value.items()) if k not in NOT_COMPARED}
    return value


def awaited(client: httpx.Client) -> dict[str, Any]:
    """What it says of its rules, once all were evaluated with the samples."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        data = client.get("/api/v1/rules").json()["data"]
        rules = {rule["name"]: rule for group in data["groups"] for rule in group["rules"]}
        if rules["Hot"]["state"] == "firing" and rules["Fails"]["health"] == "err":
            return data
        time.sleep(0.05)  # between looks, not instead of one
    raise AssertionError(data)


def evaluated(series: dict[prometheus.Labels, list], at_ms: int) -> dict[str, Any]:
    """What ours say of them, once they were evaluated with the samples."""
    buffer = SeriesBuffer()
    buffer.write(
        Sample(labels_of(dict(labels)), *point)
        for labels, points in series.items()
        for point in points
    )
    evaluator = Evaluator(
        interval_ms=60_000,
        query_offset_ms=0,
        resend_ms=60_000,
        environment=Environment({}, "http://varve.example"),
    )
    runs = [GroupRun(group) for group in parse_rule_file(RULES, "rules.yml")]
    for run in runs:
        run.evaluate(buffer, evaluator, at_ms)
    return api_json.rules(runs, evaluator)


def test_rules_and_their_alerts_are_shown_as_prometheus_shows_them(tmp_path: Path):
    (tmp_path / "rules.yml").write_text(RULES)
    now_ms = int(time.time()) * 1000
    series = {
        (("__name__", "kiln"), ("host", host), ("site", site)): [(now_ms, value)]
        for (host, site), value in KILN.items()
    }

    with prometheus.prometheus(tmp_path, series, f"rule_files: ['{tmp_path}/rules.yml']\n") as them:
        theirs = awaited(them)
        their_alerts = them.get("/api/v1/alerts").json()["data"]
    ours = evaluated(series, now_ms)

    assert comparable(ours) == comparable(theirs)
    alerts = [alert for rule in ours["groups"][0]["rules"] for alert in rule.get("alerts", ())]
    assert comparable(alerts) == comparable(their_alerts["alerts"])
    for mine, other in zip(ours["groups"][0]["rules"], theirs["groups"][0]["rules"], strict=True):
        assert ("lastError" in mine) == ("lastError" in other)
