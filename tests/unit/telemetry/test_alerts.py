"""conf/alerts.yml, evaluated by Varve's own engine over pages as its processes give them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.promql.asking import vector
from tests.unit.telemetry.test_metrics import DECLARED
from varve.api.pages import STATIC
from varve.collectors.pages import PageTarget
from varve.ingest.plan import Reach
from varve.kafka.partitions import Partition
from varve.model.resources import conf_dir
from varve.model.staleness import STALE_NAN
from varve.model.window import TIERS
from varve.promql.engine import Engine
from varve.promql.syntax.parser import parse
from varve.promql.testing import MemoryStorage
from varve.rollups.tier_plan import TierProgress
from varve.services.ingest_plans import ingest_plans
from varve.services.instruments import Instruments
from varve.services.streams import rollup_plan
from varve.settings import Settings
from varve.telemetry.metrics import (
    CollectorMetrics,
    ComponentUse,
    DiskSpace,
    GatewayMetrics,
    QueryMetrics,
    RulesMetrics,
    Usage,
    declare_components,
    declare_disks,
)
from varve.telemetry.registry import Telemetry

FILE = conf_dir() / "alerts.yml"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(FILE.read_text())["groups"]
    for rule in group["rules"]
}
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"

MINUTES = 32
START_MS = 1_795_338_000_000
PARTITION = Partition("raw-metrics", "id", 0)


class Deployment:
    """What its processes say of themselves each minute. `fault` changes it before they are read."""

    def __init__(self):
        self.instruments = Instruments()
        settings = Settings()
        self.bulk = self.instruments.on_ingest(ingest_plans(settings))[0]
        self.rollup = self.instruments.on_rollup(rollup_plan(settings))
        self.query = QueryMetrics(Telemetry())
        self.collector = CollectorMetrics(Telemetry())
        self.gateway = GatewayMetrics(Telemetry())
        self.rules = RulesMetrics(Telemetry())
        self.rule_files_ok, self.skipped, self.send_failures = 1, 0, 0
        self.spool_age_s, self.write_status = 0, "204"
        up = Telemetry()
        self.components = {"kafka": ComponentUse(True, 0, Usage(1.0, 1))}
        declare_components(up, lambda: self.components)
        self.free_bytes = 100 * 2**30
        declare_disks(up, lambda: {"home": DiskSpace(self.free_bytes, 2**30)})
        self.telemetries = {
            "streams": self.instruments.telemetry,
            "query": self.query.telemetry,
            "collector": self.collector.telemetry,
            "gateway": self.gateway.telemetry,
            "rules": self.rules.telemetry,
            "up": up,
        }
        self.down = set()
        self.accounting = {
            "query": "bulk",
            "batch": 1,
            "in": 1_000,
            "stored": 1_000,
            "merged": 0,
            "rejected": {},
            "messages": 10,
            "bytes": 9_000,
            "gaps": {},
            "files": 1,
            "written_bytes": 2_000,
            "driver_cpu_s": 0.1,
            "seconds": 0.6,
            "commit_s": 0.02,
            "series": 500,
            "active_series": 400,
            "awaited": 0,
        }
        self.lag = 5
        self.complete_age_s = 3
        self.clock_error_ms = 0
        self.answers_age_s = 4
        self.frontier_age_s = {"1m": 90, "5m": 400, "1h": 3_700, "1d": 80_000}
        self.pending = 0
        self.behind = 900
        self.unreadable, self.failure = (), ""
        self.step = {"tier": "1m", "closed": [0, 1], "rows": 5, "refused": 0}
        self.request_s, self.status = 0.02, 200

    def minute(self, now_ms):
        self.gateway.spool_age.labels("raw-metrics").set(self.spool_age_s)
        self.gateway.requests.labels("remote_write", self.write_status).inc()
        self.rules.files_ok.set(self.rule_files_ok)
        self.rules.skipped.inc(self.skipped)
        self.rules.send_failures.labels("n").inc(self.send_failures)
        self.bulk.on_batch(self.accounting)
        complete_ms = now_ms - self.complete_age_s * 1000
        ends, stored = {PARTITION: 100 + self.lag}, {PARTITION: 100}
        self.bulk.on_look(Reach(now_ms, ends, stored, complete_ms, self.clock_error_ms))
        self.rollup.on_commit(self.step | {"written_bytes": 1, "seconds": 0.1, "commit_s": 0.01})
        for tier in TIERS:
            frontier_ms = now_ms - self.frontier_age_s[tier.name] * 1000
            told = (self.pending, self.behind, self.unreadable, self.failure)
            self.rollup.on_look(tier.name, TierProgress(frontier_ms, *told))
        self.query.complete.set(now_ms / 1000 - self.answers_age_s)
        for _ in range(10):
            self.query.requests.labels("query", self.status).inc()
            self.query.seconds.labels("query").observe(self.request_s)


def pages(fault=lambda _deployment, _minute: None):
    """Half an hour of pages as a storage, and its last minute in ms."""
    deployment = Deployment()

    def read(name):
        if name in deployment.down:
            raise ConnectionRefusedError("refused")
        text, kind = deployment.telemetries[name].page("")
        return text.decode(), kind

    targets = [
        PageTarget(f"varve-{name}", "here", lambda name=name: read(name))
        for name in deployment.telemetries
    ]
    series = {}
    for minute in range(MINUTES):
        now_ms = START_MS + minute * 60_000
        fault(deployment, minute)
        deployment.minute(now_ms)
        for target in targets:
            for sample in target.scrape(now_ms):
                labels = tuple(
                    sorted({"__name__": sample.series.metric, **dict(sample.series.tags)}.items())
                )
                value = STALE_NAN if sample.value is None else sample.value
                series.setdefault(labels, []).append((now_ms, value, 0))
    return Engine(MemoryStorage.of(series)), now_ms


def firing(fault=lambda _deployment, _minute: None):
    """Alerts whose expression has a result at its end."""
    engine, now_ms = pages(fault)
    return {name for name, rule in ALERTS.items() if vector(engine.instant(rule["expr"], now_ms))}


def test_nothing_fires_while_all_is_well():
    assert firing() == set()


def _set(name, value):
    def fault(deployment, _minute):
        setattr(deployment, name, value)

    return fault


def _accounting(**changes):
    def fault(deployment, _minute):
        deployment.accounting = deployment.accounting | changes

    return fault


def _rejected(reason, count=20):
    return _accounting(**{"in": 1_000, "stored": 1_000 - count, "rejected": {reason: count}})


def _frontier(tier, age_s):
    def fault(deployment, _minute):
        deployment.frontier_age_s[tier] = age_s

    return fault


def _down(deployment, minute):
    if minute > 22:
        deployment.down.add("streams")


def _lag_grows(deployment, minute):
    deployment.lag = 20_000 + 1_000 * minute


def _restarts(deployment, minute):
    deployment.components = {"kafka": ComponentUse(True, minute // 3, Usage(1.0, 1))}


def _not_ready(deployment, _minute):
    deployment.components = {"kafka": ComponentUse(False, 0, Usage(1.0, 1))}


def _disk_fills(deployment, minute):
    deployment.free_bytes = (100 - minute) * 2**30


def _ended(deployment, _minute):
    deployment.instruments.streams.running.labels("ingest-bulk").set(0)


def _pending(deployment, minute):
    deployment.pending = 10 + minute


def _repairs_go_on(deployment, minute):
    deployment.pending = 100 - minute


def _rivals(deployment, _minute):
    deployment.rollup.on_conflict("1m")


def _no_checkpoint(deployment, minute):
    deployment.instruments._tables.log.labels("samples").set(500 + minute)


def _storage(deployment, _minute):
    deployment.instruments._tables.failures.labels("samples").inc()


def _polls(deployment, _minute):
    deployment.query.poll_failures.inc(5)


def _loses(deployment, _minute):
    deployment.collector.lost.inc(1)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_down, {"VarveProcessDown", "VarveSilent"}),
        (_not_ready, {"VarveComponentDown"}),
        (_restarts, {"VarveComponentRestarts"}),
        (_set("free_bytes", 2**29), {"VarveDiskFull", "VarveDiskFills"}),
        (_disk_fills, {"VarveDiskFills"}),
        (_ended, {"VarveStreamEnded"}),
        (_set("complete_age_s", 70), {"VarveIngestBehind"}),
        (_set("complete_age_s", -70), {"VarvePositionsAhead"}),
        (_frontier("1h", -70), {"VarvePositionsAhead"}),
        (_set("clock_error_ms", 90_000), {"VarveClockWrong"}),
        (_set("clock_error_ms", -90_000), {"VarveClockWrong"}),
        (_lag_grows, {"VarveIngestFallsBehind"}),
        (_set("lag", 50_000), set()),
        (_accounting(gaps={"raw-metrics-0": [5, 9]}), {"VarveMessagesDropped"}),
        (_rejected("too_old"), {"VarveRejects"}),
        (_rejected("too_old", 5), set()),
        (_rejected("cardinality_limit", 1), {"VarveLimitHit"}),
        (_rejected("id_collision", 1), {"VarveIdCollision"}),
        (_accounting(awaited=3), {"VarveUndefinedSeries"}),
        (_accounting(seconds=25.0), {"VarveBatchSlow"}),
        (_accounting(commit_s=1.8), {"VarveCommitSlow"}),
        (_frontier("1m", 310), {"VarveRollupBehind"}),
        (_frontier("1d", 91_000), {"VarveRollupBehind"}),
        (_pending, {"VarveRepairsPileUp"}),
        (_repairs_go_on, set()),
        (
            _set("step", {"tier": "1m", "closed": None, "rows": 5, "refused": 2}),
            {"VarveRepairsRefused"},
        ),
        (_set("behind", 6_000), {"VarveRollupSourceOld"}),
        (_set("failure", "OSError: away"), {"VarveRollupFails"}),
        (_set("unreadable", ("samples/a is missing",)), {"VarveFileUnreadable"}),
        (_rivals, {"VarveRollupRivals"}),
        (_no_checkpoint, {"VarveLogLong"}),
        (_storage, {"VarveStorageFails"}),
        (_polls, {"VarveStorageFails"}),
        (_set("answers_age_s", 70), {"VarveAnswersOld"}),
        (_set("status", 500), {"VarveQueriesFail"}),
        (_set("status", 400), set()),
        (_set("request_s", 25.0), {"VarveQueriesSlow"}),
        (_loses, {"VarveCollectorLoses"}),
        (_set("spool_age_s", 400), {"VarveGatewaySpools"}),
        (_set("spool_age_s", 200), set()),
        (_set("write_status", "503"), {"VarveGatewayOverloaded"}),
        (_set("write_status", "429"), set()),
        (_set("skipped", 1), {"VarveRulesSkipped"}),
        (_set("rule_files_ok", 0), {"VarveRulesUnreadable"}),
        (_set("send_failures", 2), {"VarveNotifierAway"}),
    ],
)
def test_a_fault_fires_what_names_it_and_nothing_else(fault, expected):
    assert firing(fault) == expected


def test_every_alert_but_that_of_the_machine_has_been_seen_to_fire():
    parameters = test_a_fault_fires_what_names_it_and_nothing_else.pytestmark[0].args[1]

    # Open files are the process's own: a test that opened most of them would break others.
    assert set().union(*(expected for _, expected in parameters)) == ALERTS.keys() - {
        "VarveFilesOpen"
    }


@pytest.mark.parametrize("rule", ALERTS.values(), ids=lambda rule: rule["alert"])
def test_an_expression_asks_for_metrics_that_there_are(rule):
    parse(rule["expr"])

    known = {m.name for m in DECLARED} | {
        f"{m.name}_bucket" for m in DECLARED if m.kind == "histogram"
    }
    asked = set(re.findall(r"\b(?:varve|process)_\w+|\bup\b", rule["expr"]))
    assert asked
    assert asked <= known | {"up", "process_open_fds", "process_max_fds"}


def test_the_page_asks_about_varve_itself_by_metrics_that_there_are():
    text = (STATIC / "page.js").read_text()
    asked = re.findall(r'expr: "([^"]*varve_[^"]*)"', text)

    assert len(asked) >= 7
    for expression in asked:
        parse(expression)
    names = {re.sub("_bucket$", "", n) for n in re.findall(r"varve_\w+", " ".join(asked))}
    assert names <= {metric.name for metric in DECLARED}


def test_docs_have_every_alert_with_its_expression_and_what_to_do():
    rows = re.findall(
        r"^\| (Varve\w+) \| (\w+) \| `(.+?)`(?: for (\w+))? \| (.+) \| (.+) \|$",
        OPERATIONS.read_text(),
        re.MULTILINE,
    )

    documented = {
        name: (severity, expression.replace("\\|", "|"), hold)
        for name, severity, expression, hold, meaning, action in rows
        if meaning and action
    }
    assert documented == {
        name: (rule["labels"]["severity"], rule["expr"], rule.get("for", ""))
        for name, rule in ALERTS.items()
    }


def test_the_file_is_one_of_prometheus():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH")

    checked = subprocess.run(
        [promtool, "check", "rules", str(FILE)], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout
