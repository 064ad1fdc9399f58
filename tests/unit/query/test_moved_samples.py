"""Who follows the tables for long answers from colder roots as one does that opens them now."""

from __future__ import annotations

import pytest

from tests.tables import QUERY, WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.tiering import HANDOVER_MS, Tiering
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS
from varve.query.evaluation import Options, evaluate
from varve.query.tables import Tables
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

BEGIN = 1_795_305_600_000  # midnight, UTC
DAYS, OF_A_DAY = 3, 24
NOW = BEGIN + DAYS * DAY_MS
MOVED_AFTER = (DAY_MS, 2 * DAY_MS)
UP = define("up", {"host": "a"}, metric_type="gauge")


class Followed:
    """Tables over three roots, and a reader that has opened them before anything moved."""

    def __init__(self, folder) -> None:
        tables = WrittenTables(str(folder / "hot"))
        tables.define([UP])
        for begin in range(BEGIN, NOW, 3 * HOUR_MS):
            rows = [(UP.series_id, begin + n * MINUTE_MS, float(n)) for n in range(1, 4)]
            tables.put(rows, complete_ms=begin + 3 * HOUR_MS)
        tables.roll_up()
        cold = Store(str(folder / "cold"))
        self.store = Store(str(folder / "hot"), {}, Store(str(folder / "warm"), {}, cold))
        self.now_ms = NOW
        self.reader = Tables(self.store, [QUERY], 64 << 20)

    def do(self, job) -> None:
        execute(job, self.store, self.now_ms)
        self.now_ms += HANDOVER_MS
        self.reader.poll()

    def move(self, times: int) -> None:
        for _ in range(times):
            self.do(Tiering(self.store, MOVED_AFTER))
            self.require_all(DAYS * OF_A_DAY)

    def require_all(self, count: int) -> None:
        """By what it has in memory, and once it has to read its files again."""
        fresh = Tables(self.store, [QUERY], 64 << 20)
        wanted = answer(fresh)
        fresh.close()
        assert count_of(wanted) == count
        assert repr(answer(self.reader)) == repr(wanted)
        self.reader.hold(None)
        while self.reader.poll():
            pass
        assert repr(answer(self.reader)) == repr(wanted)

    def files(self) -> list[int]:
        """How many of samples each root has."""
        return [len(snapshot(root, "samples").files) for root in self.store.roots()]


def answer(reader):
    asked = f"up[{DAYS}d]", NOW, Options(tier="raw")
    return evaluate(reader.view, *asked).result.value.samples


def count_of(samples) -> int:
    return len(samples.ts)


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def test_files_that_move_from_root_to_root_stay_in_the_answers(followed):
    followed.move(5)

    assert all(followed.files())


def test_files_that_are_merged_in_a_colder_root_stay_in_the_answers(followed, monkeypatch):
    monkeypatch.setattr("varve.storage.snapshot._COLDER_EVERY_S", 0.0)
    followed.move(2)
    warm = followed.store.colder

    execute(Compaction(warm), warm, followed.now_ms, only=["samples"])
    followed.reader.poll()

    followed.require_all(DAYS * OF_A_DAY)


def test_samples_that_are_deleted_below_are_in_no_answer_any_more(followed):
    followed.move(5)

    followed.do(Deletion(followed.store, Wanted(("up",), BEGIN, BEGIN + DAY_MS, by="test")))

    followed.require_all((DAYS - 1) * OF_A_DAY)
