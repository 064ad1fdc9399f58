"""`varve up --for`: measures freshness while it runs, and sums up what the run has done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from varve.local.components import COLLECTOR, HISTORY, RULES, WRITER
from varve.local.findings import Findings
from varve.local.freshness import FreshnessProbe, range_query
from varve.local.summary import FreshnessFigures, Summary, as_json, as_text, complaints
from varve.local.supervisor import Health
from varve.services.collector import instance_name
from varve.services.progress import Progress, progress
from varve.services.status import Record, read_status, replace_file
from varve.settings import Settings

WARM_UP_S = 30.0
"""Seconds after all is ready in which freshness is not measured, or half the run if that is
less."""

_WINDOWS_S = 60.0
_FINDINGS_S = 60.0
_LOOK_S = 1.0
# So many samples of the collector must have had the time to come before one is missed.
_EXPECTED = 3
_SLACK_S = 10.0


class BoundedRun:
    """A run that ends by itself for_s seconds after all was ready."""

    def __init__(
        self,
        settings: Settings,
        for_s: float,
        findings: Findings | None,
        url: str,
        say: Callable[[str], None],
    ) -> None:
        """findings: in the history of a demo; None for a run without. url: of the query service.
        say: tells a person.
        """
        self._settings = settings
        self._for_s = for_s
        self._findings = findings
        self._url = url
        self._say = say
        self._begun = time.monotonic()
        self._until: float | None = None
        self._warm_up_s = min(WARM_UP_S, for_s / 2)
        selector = f'node_time_seconds{{job="node",instance="{instance_name(settings)}"}}'
        self._probe = FreshnessProbe(range_query(settings, selector))

    def start(self) -> None:
        """Notes that all is ready, the first time it is told so."""
        if self._until is not None:
            return
        self._until = time.monotonic() + self._for_s
        self._probe.start(after_s=self._warm_up_s)

    def over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def stop_measuring(self) -> None:
        self._probe.stop()

    def summary(
        self,
        health: Mapping[str, Health],
        unstored: int | None,
        peak_rss_bytes: int,
        *,
        streaming: bool,
    ) -> list[str]:
        """Tells what the run has done, and returns what should have happened and did not.

        health: of the components before they were stopped. streaming: rollups still run, and may
        close the windows of the history; the jobs may find something in it.
        """
        statuses = read_status(self._settings.home)
        findings = self._findings
        done = self._progress(wait_s=_WINDOWS_S if streaming and findings else 0.0)
        if streaming and findings:
            self._await_findings(findings)
        summary = Summary(
            live_samples=_samples(statuses, COLLECTOR),
            pushed_samples=_samples(statuses, WRITER),
            generated_samples=_samples(statuses, HISTORY),
            computed_samples=_samples(statuses, RULES),
            rows=done.rows,
            rejected=done.rejected,
            frontier_ms=done.frontier_ms,
            freshness=self._freshness(),
            unstored=unstored,
            restarts={name: h.restarts for name, h in health.items()},
            peak_rss_bytes=peak_rss_bytes,
            seconds=round(time.monotonic() - self._begun, 1),
            url=self._url,
            episode=findings.episode if findings else None,
            breach=findings.breach if findings else None,
        )
        found = complaints(
            summary,
            live=COLLECTOR in health,
            pushed=WRITER in health,
            demo=findings is not None,
            measured=self._measured(),
        )
        self._say(as_text(summary))
        logs = self._settings.home / "logs"
        if findings is not None:
            path = self._settings.home / "demo-summary.json"
            replace_file(path, json.dumps(as_json(summary, found), indent=2) + "\n")
            self._say(f"the summary as JSON is in {path}")
        for complaint in found:
            self._say(f"MISSING: {complaint} ({logs})")
        return found

    def _measured(self) -> bool:
        """Whether it was measured for long enough to expect samples in answers."""
        interval_s = self._settings.collector.interval_s
        return self._for_s - self._warm_up_s >= _EXPECTED * interval_s + _SLACK_S

    def _progress(self, wait_s: float) -> Progress:
        """How far everything is, once every tier has closed a window or the time is over."""
        deadline = time.monotonic() + wait_s
        while True:
            done = progress(self._settings)
            closed = all(done.frontier_ms.values())
            if closed or time.monotonic() >= deadline:
                return done
            time.sleep(_LOOK_S)

    def _await_findings(self, findings: Findings) -> None:
        """Waits until the jobs have found what is in the history, or the time is over."""
        deadline = time.monotonic() + _FINDINGS_S
        findings.look()
        if not findings.complete:
            self._say(f"waiting for what is found in the history, for {_FINDINGS_S:.0f} s at most")
        while not findings.complete and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            findings.look()

    def _freshness(self) -> FreshnessFigures:
        ages = self._probe.freshness
        return FreshnessFigures(
            p50_s=ages.quantile_s(0.5),
            p99_s=ages.quantile_s(0.99),
            max_s=ages.quantile_s(1.0),
            samples=len(ages.ages_ms),
            answers=self._probe.answers,
            failures=self._probe.failures,
        )


def _samples(statuses: Mapping[str, Record], name: str) -> int:
    record = statuses.get(name)
    return int(record.detail.get("samples", 0)) if record else 0
