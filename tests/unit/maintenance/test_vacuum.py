import os
import time

from tests.tables import WrittenTables
from varve.maintenance import compaction, vacuum
from varve.model.window import HOUR_MS
from varve.storage.bounds import Bounds
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot

BEGIN = 1_795_392_000_000
NOW_MS = time.time_ns() // 1_000_000


def compacted(root, files):
    """A table whose files have just been merged into one."""
    tables = WrittenTables(str(root))
    for n in range(files):
        tables.put([(1, BEGIN + n + 1, float(n))])
    (merge,) = compaction.due_merges(snapshot(tables.store, "samples"), BEGIN + 24 * HOUR_MS)
    assert compaction.merge_files(tables.store, merge)
    return tables.store


def age(root, hours):
    """Makes every data file so old."""
    then = time.time() - hours * 3_600
    for file in (root / "samples").glob("*.parquet"):
        os.utime(file, (then, then))


def test_files_stay_for_as_long_as_readers_of_older_versions_may_need_them(tmp_path):
    store = compacted(tmp_path, 5)
    age(tmp_path, 30)

    assert vacuum.find_garbage(store, "samples", NOW_MS, 12 * HOUR_MS).paths == ()


def test_orphans_go_once_they_are_old_and_nothing_else_does(tmp_path):
    store = compacted(tmp_path, 5)
    rows = snapshot(store, "samples").scan(Bounds())
    orphan = write_file(store, "samples", rows)
    age(tmp_path, 30)
    young = write_file(store, "samples", rows)

    garbage = vacuum.find_garbage(store, "samples", NOW_MS, 12 * HOUR_MS)

    assert garbage.paths == (orphan.path,)
    assert garbage.nbytes == orphan.size
    assert vacuum.delete(store, garbage) == 1
    assert vacuum.delete(store, garbage) == 0
    assert (tmp_path / "samples" / young.path).exists()
    assert snapshot(store, "samples").scan(Bounds()).num_rows == 5
