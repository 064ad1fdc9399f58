"""/api/v1/targets, /api/v1/targets/metadata and /api/v1/scrape_pools.

Source: Prometheus, "HTTP API", Targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from varve.gateway.scrape.loop import TargetLoop
from varve.gateway.scrape.manager import Pool
from varve.promql.syntax.literals import format_duration

_NEVER = "0001-01-01T00:00:00Z"
_ANY = ("", "any")

Matches = Callable[[str, Mapping[str, str]], bool]


def targets(pools: Mapping[str, Pool], state: str = "", scrape_pool: str = "") -> dict[str, Any]:
    """state: active, dropped or any."""
    chosen = {name: p for name, p in sorted(pools.items()) if scrape_pool in ("", name)}
    found: dict[str, Any] = {"activeTargets": [], "droppedTargets": []}
    if state.lower() in (*_ANY, "active"):
        found["activeTargets"] = [
            _active(name, pool, loop) for name, pool in chosen.items() for loop in _loops(pool)
        ]
    if state.lower() in (*_ANY, "dropped"):
        found["droppedTargets"] = [
            {"discoveredLabels": dict(labels), "scrapePool": name}
            for name, pool in chosen.items()
            for labels in _dropped(pool)
        ]
        found["droppedTargetCounts"] = {n: len(p.targets.dropped) for n, p in chosen.items()}
    return found


def scrape_pools(pools: Mapping[str, Pool]) -> dict[str, Any]:
    return {"scrapePools": sorted(pools)}


def metadata(
    pools: Mapping[str, Pool], matches: Matches, metric: str = "", limit: int = 0
) -> list[dict[str, Any]]:
    """Metadata of the metrics of targets whose labels match. limit: 0 for all."""
    found: list[dict[str, Any]] = []
    for pool in pools.values():
        for loop in _loops(pool):
            if not matches("", loop.target.labels):
                continue
            for name, said in loop.assembly.metadata.items():
                if metric in ("", name):
                    entry = {"type": said.type, "help": said.help, "unit": said.unit}
                    own = {} if metric else {"metric": name}
                    found.append({"target": dict(loop.target.labels)} | own | entry)
                if limit and len(found) >= limit:
                    return found
    return found


def _loops(pool: Pool) -> Iterator[TargetLoop]:
    return iter([pool.loops[key] for key in sorted(pool.loops)])


def _dropped(pool: Pool) -> list[Mapping[str, str]]:
    keep = pool.job.keep_dropped_targets
    return pool.targets.dropped[:keep] if keep else pool.targets.dropped


def _active(name: str, pool: Pool, loop: TargetLoop) -> dict[str, Any]:
    target, state = loop.target, loop.state
    last = _NEVER
    if state.last_scrape_ms:
        moment = datetime.fromtimestamp(state.last_scrape_ms / 1000, UTC)
        last = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "discoveredLabels": dict(target.discovered),
        "labels": dict(target.labels),
        "scrapePool": name,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": state.last_error or pool.error,
        "lastScrape": last,
        "lastScrapeDuration": state.last_duration_s,
        "health": state.health,
        "scrapeInterval": format_duration(target.interval_ms / 1000),
        "scrapeTimeout": format_duration(target.timeout_ms / 1000),
    }
