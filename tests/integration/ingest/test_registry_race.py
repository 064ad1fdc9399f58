"""Several processes register at once: one registry, whoever is faster."""

import multiprocessing
import random
from collections import Counter
from dataclasses import replace

from tests.plans import open_registry
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

RIVALS, IDS, BATCH = 4, 150, 10
LIMITS = Limits(default=MetricLimits(series=100))


def contenders():
    """Series of two metrics; of every third id there are two with different checks."""
    series = [define(f"m{n % 2}", {"n": str(n)}) for n in range(IDS)]
    twins = [
        replace(define("m0", {"twin": str(n)}), series_id=series[n].series_id)
        for n in range(0, IDS, 3)
    ]
    return series + twins


def compete(store, seed, gate):
    """Registers all contenders in an order of its own. Returns what it was refused."""
    registry, order = open_registry(store), contenders()
    random.Random(seed).shuffle(order)
    gate.wait(60)
    refused = {}
    for start in range(0, len(order), BATCH):
        batch = [(series, seed) for series in order[start : start + BATCH]]
        refused |= registry.register(batch, LIMITS)
    return refused, dict(registry.series_of)


def test_rivals_register_each_id_once_and_no_more_than_the_limit(tmp_path):
    store = Store(str(tmp_path / "tables"))
    create_tables(store, ("series",))
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(RIVALS) as pool:
        gate = manager.Barrier(RIVALS)
        results = pool.starmap(compete, [(store, seed, gate) for seed in range(RIVALS)])

    rows = snapshot(store, "series").scan(Bounds(), ["series_id", "check", "metric"]).to_pylist()
    stored = {(row["series_id"], row["check"]) for row in rows}
    assert len(rows) == len({row["series_id"] for row in rows})
    counts = Counter(row["metric"] for row in rows)
    assert max(counts.values()) <= 100
    everyone = {(s.series_id, s.check) for s in contenders()}
    for refused, _ in results:
        # What one was refused is not there, and everything else is.
        assert set(refused) == everyone - stored
    reasons = {key: reason for refused, _ in results for key, reason in refused.items()}
    taken = {series_id for series_id, _ in stored}
    assert {key for key, reason in reasons.items() if reason is Reason.ID_COLLISION} <= {
        key for key in everyone if key[0] in taken
    }
    assert open_registry(store).series_of == counts
    assert Table(store, "series").position("registry") is not None
