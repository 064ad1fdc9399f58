from varve.services.collector import OwnPages
from varve.services.metrics_page import serving
from varve.services.status import ComponentStatus
from varve.settings import load
from varve.telemetry.metrics import CollectorMetrics
from varve.telemetry.registry import Telemetry


def _values(samples, metric):
    return {dict(s.series.tags)["job"]: s.value for s in samples if s.series.metric == metric}


def test_components_that_say_where_their_page_is_are_jobs_and_stay_so(tmp_path):
    overrides = {"home": tmp_path, "collector.instance": "here", "collector.interval_s": 60}
    settings, _ = load(overrides=overrides)
    own, theirs = Telemetry(), Telemetry()
    CollectorMetrics(own).sent.inc(7)
    pages = OwnPages(settings, own)
    assert _values(pages.scrape(1), "up") == {"varve-collector": 1.0}

    with serving(theirs, "127.0.0.1", 0, "telemetry.port") as url:
        status = ComponentStatus(tmp_path, "streams")
        status.update(state="ready", detail={"metrics": url})
        samples = pages.scrape(2)

    assert _values(samples, "up") == {"varve-collector": 1.0, "varve-streams": 1.0}
    assert _values(samples, "varve_collector_samples_total") == {"varve-collector": 7.0}
    assert {dict(s.series.tags)["instance"] for s in samples} == {"here"}

    # It is being started again: its new process has not said anything yet.
    ComponentStatus(tmp_path, "streams").update(state="starting")
    samples = pages.scrape(3)
    assert _values(samples, "up") == {"varve-collector": 1.0, "varve-streams": 0.0}
    assert _values(samples, "varve_build_info")["varve-streams"] is None
    assert {s.value for s in pages.end(4)} == {None}
