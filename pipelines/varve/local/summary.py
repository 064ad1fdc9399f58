"""What a bounded run of `varve up` did: figures for a person and as JSON, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from varve.model.clock import utc_text
from varve.model.window import TIERS

STAGES = ("samples", *(tier.table for tier in TIERS))


@dataclass(frozen=True, slots=True)
class FreshnessFigures:
    """Seconds from a sample's timestamp to its first answer, over `samples` samples measured.

    A figure is None if none was measured. answers and failures count the polls.
    """

    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    samples: int
    answers: int
    failures: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has done.

    live_samples, pushed_samples, generated_samples, computed_samples: what the collector, the
    demo's writer to the gateway, the demo's history, and rules have had acknowledged.
    rows: by table, copies and replaced revisions included. unstored: messages that Kafka has and
    the tables have not, None if that is not known. peak_rss_bytes: memory of all components, pages
    that they share counted in each. episode, breach: in words, what the jobs have found in the
    demo's history; empty for nothing yet, None for a run without a history.
    """

    live_samples: int
    pushed_samples: int
    generated_samples: int
    computed_samples: int
    rows: Mapping[str, int]
    rejected: Mapping[str, int]
    frontier_ms: Mapping[str, int | None]
    freshness: FreshnessFigures
    unstored: int | None
    restarts: Mapping[str, int]
    peak_rss_bytes: int
    seconds: float
    url: str
    episode: str | None = None
    breach: str | None = None


def complaints(
    summary: Summary, *, live: bool, pushed: bool, demo: bool, measured: bool
) -> list[str]:
    """What should have happened and did not; empty if every stage saw something.

    live: a collector ran. pushed: a writer to the gateway ran. demo: there is history, so that
    every tier has closed windows. measured: freshness was measured for long enough to expect
    samples in answers.
    """
    found = []
    if live and not summary.live_samples:
        found.append("no live sample reached Kafka: see the collector's log")
    if not summary.rows.get("samples"):
        found.append("no sample was stored: see the log of streams")
    tables = [tier.table for tier in TIERS if demo]
    found += [
        f"{table} has no row: see the log of streams"
        for table in tables
        if not summary.rows.get(table)
    ]
    if demo and not summary.generated_samples:
        found.append("no generated sample reached Kafka: see the log of demo-history")
    if pushed and not summary.pushed_samples:
        found.append("the gateway took no sample: see the logs of gateway and demo-writer")
    if not (live and measured):
        return found
    if not summary.freshness.answers:
        found.append("the query service gave no answer: see the log of query")
    elif not summary.freshness.samples:
        found.append("no live sample was seen in an answer: see the logs of streams and query")
    return found


def as_json(summary: Summary, found: list[str]) -> dict[str, object]:
    return asdict(summary) | {"complaints": found}


def as_text(summary: Summary) -> str:
    """The figures, a line each, for a terminal."""
    lines = [
        "Summary",
        f"  live samples   {summary.live_samples:>12,}",
        f"  pushed         {summary.pushed_samples:>12,} samples",
        f"  generated      {summary.generated_samples:>12,} samples",
        f"  computed       {summary.computed_samples:>12,} by rules",
        f"  not yet stored {_number(summary.unstored):>12} messages",
    ]
    for table in (*STAGES, "series", "quarantine"):
        frontier = summary.frontier_ms.get(table.removeprefix("rollup_"))
        until = f"   closed until {utc_text(frontier)}" if frontier else ""
        lines.append(f"  {table:<14} {summary.rows.get(table, 0):>12,} rows{until}")
    for reason, count in summary.rejected.items():
        lines.append(f"  rejected       {count:>12,} {reason}")
    if not summary.rejected:
        lines.append(f"  rejected       {0:>12}")
    fresh = summary.freshness
    lines.append(
        f"  freshness      {_seconds(fresh.p50_s):>12} p50   {_seconds(fresh.p99_s)} p99"
        f"   ({fresh.samples} samples)"
    )
    lines.append(f"  memory, peak   {summary.peak_rss_bytes / 2**30:>8.2f} GiB of all components")
    restarted = {name: n for name, n in summary.restarts.items() if n}
    lines += [f"  restarted      {n:>12} times: {name}" for name, n in restarted.items()]
    for what, found in (("unusual", summary.episode), ("forecast", summary.breach)):
        if found is not None:
            lines.append(f"  {what:<14} {found or 'nothing yet'}")
    return "\n".join(lines)


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
