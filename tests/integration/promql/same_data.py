"""A real Prometheus and the query service over the same random samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx

from tests.integration.api_service import served, service_over
from tests.integration.promql.prometheus import prometheus
from tests.integration.promql.shared_queries import BASE_MS, SPAN_S, random_data
from tests.tables import WrittenTables
from varve.model.identity import define


@contextmanager
def both_servers(folder: Path, r: Random) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of both, Prometheus' first; what they hold is kept in the folder meanwhile. Our first
    answer may have to wait for kernels to be compiled.
    """
    data = random_data(r)
    tables = WrittenTables(str(folder / "tables"))
    series = {key: define(dict(key)["__name__"], dict(key[1:])) for key in data}
    tables.define(series.values(), BASE_MS)
    tables.put([(series[key].series_id, t, v) for key, found in data.items() for t, v in found])
    service = service_over(tables, now_ms=BASE_MS + SPAN_S * 1000)
    with (
        prometheus(folder, data) as oracle,
        served(service) as address,
        httpx.Client(base_url=address, timeout=300) as ours,
    ):
        yield oracle, ours
