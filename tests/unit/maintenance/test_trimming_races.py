"""Series are trimmed while drivers, rollups, expiry and merges go on between any two of its steps,
and it and the drivers die: no row is ever without its definition, and only what has no row goes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.churn import Churn
from tests.unit.maintenance.dying import Killed
from varve.ingest.mapped_runs import KNOWN
from varve.maintenance import series_rows
from varve.model.identity import define
from varve.model.window import DAY_MS
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

SERIES = [define("m", {"pod": str(n)}) for n in range(5)]
CHAIN = ("samples", "rollup_1m", "rollup_1h", "rollup_1d")
"""Some tables that rows go through; each is looked at after the one before."""

STEPS = ("judge", "judge", "commit", "commit", "die", "roll up", "merge")

some_series = st.lists(st.sampled_from(SERIES), min_size=1, max_size=3, unique=True)
some_steps = st.just([]) | st.lists(st.sampled_from(STEPS), min_size=1, max_size=2)
deaths = st.sampled_from([*[None] * 12, "before", "after"])


class SeriesComeAndGo(RuleBasedStateMachine):
    """Steps of all that matters to a definition. Some are done while a series is trimmed: before it
    looks at a table, and before it commits.
    """

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="varve-trimming-")
        self.churn = Churn(Path(self.folder))
        self.gone: set[int] = set()
        # All of them have been, and are no more.
        self.churn.drivers[0].send(SERIES)
        self.churn.remove("samples", [s.series_id for s in SERIES])
        self.churn.pass_time(3 * DAY_MS)

    def teardown(self) -> None:
        if not hasattr(self, "churn"):
            return
        try:
            self.everything_goes()
        finally:
            shutil.rmtree(self.folder)

    @rule(which=st.integers(0, 1), series=some_series)
    def judge(self, which: int, series) -> None:
        driver = self.churn.drivers[which]
        if driver.held is None:
            driver.judge(series)

    @rule(which=st.integers(0, 1))
    def commit(self, which: int) -> None:
        self.churn.drivers[which].commit()

    @rule(which=st.integers(0, 1))
    def die(self, which: int) -> None:
        self.churn.drivers[which].start()

    @rule(at=st.integers(0, len(CHAIN) - 2))
    def roll_up(self, at: int) -> None:
        self.churn.roll_up(CHAIN[at], CHAIN[at + 1])

    @rule(table=st.sampled_from(CHAIN), series=some_series)
    def expire(self, table: str, series) -> None:
        self.churn.remove(table, [s.series_id for s in series])

    @rule()
    def merge(self) -> None:
        self.churn.merge_definitions()

    @rule(days=st.integers(1, 2))
    def pass_time(self, days: int) -> None:
        self.churn.pass_time(days * DAY_MS)

    @rule(data=st.data())
    def trim(self, data) -> None:
        """With other steps between, and perhaps a death at a commit."""
        churn, write = self.churn, Table.write_next
        steps = {
            "judge": lambda: self.judge(data.draw(st.integers(0, 1)), data.draw(some_series)),
            "commit": lambda: self.commit(data.draw(st.integers(0, 1))),
            "die": lambda: self.die(data.draw(st.integers(0, 1))),
            "roll up": lambda: self.roll_up(data.draw(st.integers(0, len(CHAIN) - 2))),
            "merge": self.merge,
        }
        within = False

        def interrupted() -> None:
            nonlocal within
            if within:
                return
            within = True
            try:
                for name in data.draw(some_steps):
                    steps[name]()
            finally:
                within = False

        def writes(table: Table, *args: object, **given: object) -> bool:
            if within:
                return write(table, *args, **given)
            interrupted()
            death = data.draw(deaths)
            if death == "before":
                raise Killed
            done = write(table, *args, **given)
            if death == "after":
                raise Killed
            return done

        def looks(store, name):
            interrupted()
            return snapshot(store, name)

        before = churn.ids_in("series")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Table, "write_next", writes)
            patch.setattr(series_rows, "snapshot", looks)
            with contextlib.suppress(Killed):
                churn.trim()
        self.gone |= before - churn.ids_in("series")
        self.gone -= churn.ids_in("series")

    @invariant()
    def every_row_has_its_definition(self) -> None:
        if hasattr(self, "churn"):
            self.churn.check()
            assert self.gone.isdisjoint(self.churn.with_rows())

    def everything_goes(self) -> None:
        """What is held is stored; then all that has no row goes, and what is left is known."""
        churn = self.churn
        for driver in churn.drivers:
            while not driver.commit():
                pass
        churn.trim()  # what was begun
        churn.pass_time(3 * DAY_MS)
        churn.trim()
        churn.check()
        assert churn.ids_in("series") == churn.with_rows()
        for driver in churn.drivers:
            driver.registry.index.advance()
            found = driver.registry.index.status(
                *(_column(SERIES, name) for name in ("series_id", "check"))
            )
            known = {s.series_id for s, one in zip(SERIES, found, strict=True) if one == KNOWN}
            assert known == churn.with_rows()


def _column(series, name):
    kind = np.int64 if name == "series_id" else np.int32
    return np.array([getattr(s, name) for s in series], kind)


SeriesComeAndGo.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSeriesComeAndGo = SeriesComeAndGo.TestCase


@pytest.mark.slow
class TestForLong(SeriesComeAndGo.TestCase):
    settings = settings(
        max_examples=300,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
