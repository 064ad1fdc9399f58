"""GET /api/v1/targets, /targets/metadata and /scrape_pools: what the scrape services say, as one.

Source: Prometheus, web/api/v1/api.go.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from varve.api.call import Answer, Call


def targets(call: Call) -> Answer:
    """Targets that are scraped, and those that relabelling drops."""
    found, warnings = call.scraping(_address("targets", call))
    counts: dict[str, int] = {}
    for one in found:
        for pool, count in (one.get("droppedTargetCounts") or {}).items():
            counts[pool] = counts.get(pool, 0) + count
    data: dict[str, Any] = {
        name: [target for one in found for target in one[name]]
        for name in ("activeTargets", "droppedTargets")
    }
    return Answer(data | {"droppedTargetCounts": counts}, warnings)


def metadata(call: Call) -> Answer:
    """Metadata of metrics as each target says it. Raises BadRequest for a limit that is none."""
    found, warnings = call.scraping(_address("targets/metadata", call))
    entries = [entry for one in found for entry in one]
    return Answer(entries[: call.parameters.limit() or None], warnings)


def scrape_pools(call: Call) -> Answer:
    """Names of the jobs."""
    found, warnings = call.scraping("scrape_pools")
    return Answer(
        {"scrapePools": sorted({pool for one in found for pool in one["scrapePools"]})}, warnings
    )


def _address(path: str, call: Call) -> str:
    """The path with the parameters that the services understand."""
    return f"{path}?{urlencode(list(call.parameters.pairs))}"
