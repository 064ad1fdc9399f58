"""What is decoded once is not decoded again: not by two queries at once, nor by the head later."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from unittest import mock

import pytest

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.query.decoded_files import DecodedFiles
from varve.query.memory import ROW_GROUPS, MemoryBudget
from varve.query.row_group_cache import RowGroupCache
from varve.storage.snapshot import snapshot

UP = define("up", {"instance": "a"})
WAIT_S = 60


class Sized:
    nbytes = 100


@pytest.fixture
def decoded():
    files = DecodedFiles(lambda _: None, 1_000, MemoryBudget(1 << 20))
    yield files
    files.close()


def test_of_threads_that_miss_an_entry_one_makes_it(decoded):
    others, may_go = threading.Barrier(4), threading.Event()
    made, found = [], []

    def make():
        made.append(1)
        assert may_go.wait(WAIT_S)
        return Sized()

    def ask():
        others.wait(WAIT_S)
        found.append(decoded.kept(("t", "p", 0), make))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    others.wait(WAIT_S)
    may_go.set()
    for thread in threads:
        thread.join(WAIT_S)

    assert len(made) == 1
    assert len(found) == 3
    assert len({id(one) for one in found}) == 1


class JustInTime(Future):
    """Is done when who waits for it has just given up."""

    def result(self, timeout=None):
        if not self.done():
            self.set_result("there")
            raise TimeoutError
        return super().result(timeout)


def test_what_comes_as_the_wait_for_it_ends_is_no_error(decoded):
    with mock.patch.object(decoded, "_query_threads") as threads:
        threads.submit.return_value = JustInTime()

        assert list(decoded.ahead(["key"], len, lambda: None)) == ["there"]


def test_what_cannot_be_made_is_an_error_for_all_and_is_tried_again(decoded):
    def fail():
        raise OSError("gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            decoded.kept(("t", "p", 0), fail)

    assert isinstance(decoded.kept(("t", "p", 0), Sized), Sized)


def test_the_head_takes_what_a_query_has_decoded(tmp_path):
    tables = WrittenTables(str(tmp_path))
    tables.define([UP])
    tables.put([(UP.series_id, t, float(t)) for t in range(1, 100)])
    (file,) = snapshot(tables.store, "samples").files
    budget = MemoryBudget(1 << 20)
    files = DecodedFiles(tables.store.open_file, 1 << 20, budget)
    groups = RowGroupCache(files)

    (part,) = groups.read([(file.path, 0)], lambda: None)
    (rows,) = groups.read_files([file.path])

    assert groups.decoded == 1
    assert rows.ts.tolist() == part.ts.tolist() == list(range(1, 100))
    assert files.get(("samples", file.path, 0)) is None
    assert budget.used[ROW_GROUPS] == files.nbytes
    files.close()
