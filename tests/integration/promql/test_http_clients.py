"""Requests as clients make them, and promtool itself, to Prometheus' HTTP API and to ours."""

from __future__ import annotations

import subprocess
from collections import Counter
from random import Random

import pytest

from tests.integration.promql import http_clients
from tests.integration.promql.http_clients import BEGIN_S, END_S
from tests.integration.promql.http_differences import as_today, difference, reason_to_differ
from tests.integration.promql.prometheus import missing
from tests.integration.promql.same_data import both_servers

REQUESTS = 250
"""`make diff-http` makes more."""

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Clients of Prometheus and of the query service, and the random numbers to go on with."""
    r = Random(4)
    with both_servers(tmp_path_factory.mktemp("clients"), r) as (oracle, ours):
        yield oracle, ours, r


def test_requests_of_every_client_are_answered_alike(both):
    oracle, ours, r = both
    met = Counter()

    for _ in range(REQUESTS):
        sent = http_clients.request(r)
        theirs, answer = sent.to(oracle), as_today(sent).to(ours)

        if reason_to_differ(sent, theirs, answer) is None:
            unlike = difference(sent, theirs, answer)
            assert unlike is None, f"{sent}: {unlike}"
            met[sent.client, theirs.status_code == 200] += 1

    clients = {"grafana", "perses", "go", "python", "curl", "mistaken"}
    assert {client for client, is_answered in met if is_answered} >= clients - {"mistaken"}
    assert met["mistaken", False] > 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("instant", "--time", f"{END_S - 600}", "URL", "sum by (job) (c_total)"),
        ("instant", "--time", f"{END_S - 600}", "URL", "g"),
        ("instant", "--time", f"{END_S - 600}", "URL", "g[2m]"),
        ("instant", "--time", "1.5", "URL", "1 / 3"),
        ("instant", "URL", "sum("),
        ("range", "--start", f"{BEGIN_S}", "--end", f"{END_S}", "--step", "2m", "URL", "g"),
        ("range", "--start", f"{END_S}", "--end", f"{BEGIN_S}", "URL", "g"),
        ("series", "--match", "g", "--match", '{le="1"}', "--start", f"{BEGIN_S}", "URL"),
        ("series", "--match", "{}", "URL"),
        ("labels", "--start", f"{BEGIN_S}", "--end", f"{END_S}", "URL", "instance"),
        ("labels", "URL", "nope"),
    ],
)
def test_promtool_prints_the_same(both, arguments):
    oracle, ours, _ = both

    expected, found = (
        subprocess.run(
            ["promtool", "query", *(str(c.base_url) if a == "URL" else a for a in arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for c in (oracle, ours)
    )

    assert found.returncode == expected.returncode
    assert sorted(found.stdout.splitlines()) == sorted(expected.stdout.splitlines())
    assert found.stderr.split(":")[:2] == expected.stderr.split(":")[:2]
