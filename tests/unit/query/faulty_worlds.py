"""A reader of tables that change on a storage where any call may fail: what it answers meanwhile is
right or an error, and two polls after the last fault it answers as a process that starts then.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.integration.faulty_store import Fault, FaultyStore
from tests.tables import QUERY
from tests.unit.query.step_worlds import EXPRESSIONS, STEP_MS, World, change
from varve.model.window import MINUTE_MS, RAW
from varve.promql import result_json
from varve.promql.errors import QueryError
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import MemoryBudget
from varve.query.reader import Reader
from varve.query.step_cache import StepCache
from varve.query.tables import Tables

SLOW_S = 0.002
ANSWERS = {
    "503": OSError("503 SlowDown"),
    "404": FileNotFoundError("404 NoSuchKey"),
    "timeout": TimeoutError("no answer"),
}


class RandomFaults(Fault):
    """Fails a share of the calls, from 0 to 1, or has them take long."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.share = 0.0
        self.met: Counter[str] = Counter()
        self._rng, self._lock = rng, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._rng.random() >= self.share:
                return
            kind = self._rng.choice((*ANSWERS, "slow"))
            self.met[kind] += 1
        if kind == "slow":
            time.sleep(SLOW_S)  # the storage's time, not ours
            return
        raise ANSWERS[kind]


class FaultyWorld:
    """A world of tables, and a reader of them by a storage that fails. answered, failed: questions
    while it did.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World(str(folder))
        self.world.followed.close()
        self.faults = RandomFaults(Random(seed + 1))
        store = FaultyStore(self.world.tables.store.root, fault=self.faults)
        self.reader = Tables(store, [QUERY], 1 << 20)
        self.steps = StepCache(1 << 20, MemoryBudget(1 << 30))
        self.panels = [
            (panel, tier)
            for panel in self.rng.sample(EXPRESSIONS, 4)
            for tier in (None, self.rng.choice((None, RAW)))
        ]
        self.answered = self.failed = 0
        self._minute = 40

    def close(self) -> None:
        self.reader.close()

    def go(self, rounds: int) -> None:
        """Some changes and faults, over and over; AssertionError at the first wrong answer."""
        for _ in range(rounds):
            for _ in range(self.rng.randrange(1, 4)):
                self._minute = change(self.world, self.rng, self._minute)
            self.faults.share = self.rng.choice((0.05, 0.3, 1.0))
            pending = [self._amid_faults() for _ in range(3)]
            self.faults.share = 0.0
            for view, panel, tier, times, got in filter(None, pending):
                assert got == _json(view, panel, times, Options(tier=tier)), panel
            self.reader.poll()
            self.reader.poll()
            self.require_fresh()

    def _amid_faults(self):
        """A poll, and the answer to a panel, if there is any."""
        try:
            self.reader.poll()
        except OSError:
            self.failed += 1
        view, (panel, tier) = self.reader.view, self.rng.choice(self.panels)
        if self.rng.random() < 0.5:
            view = view.without_head()
        times, options = self._times(), Options(tier=tier, steps=self.steps)
        try:
            got = _json(view, panel, times, options)
        except QueryError:
            self.failed += 1
            return None
        self.answered += 1
        return view, panel, tier, times, got

    def require_fresh(self) -> None:
        """By what is in memory, by files alone, and with steps that were kept amid faults."""
        fresh = Tables(self.world.tables.store, [QUERY], 1 << 20)
        mine, theirs = self.reader.view, fresh.view
        assert mine.provenance == theirs.provenance
        for panel, tier in self.panels:
            times, options = self._times(), Options(tier=tier)
            wanted = _json(theirs, panel, times, options)
            kept = Options(tier=tier, steps=self.steps)
            for view, how in ((mine, kept), (mine, options), (mine.without_head(), options)):
                assert _json(view, panel, times, how) == wanted, (panel, tier)
        span = self.world.now - 60 * MINUTE_MS, self.world.now
        readers = Reader(mine), Reader(theirs)
        assert len({tuple(reader.label_values("i", [], *span)) for reader in readers}) == 1
        fresh.close()

    def _times(self) -> Range:
        end = self.world.now // STEP_MS * STEP_MS
        return Range(end - 60 * MINUTE_MS, end, STEP_MS)


def _json(view, panel, times, options):
    return result_json.to_json(evaluate(view, panel, times, options).result)
