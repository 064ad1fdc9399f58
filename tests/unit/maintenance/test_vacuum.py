import os
import time

from tests.tables import WrittenTables
from varve.maintenance import compaction, vacuum
from varve.model.window import HOUR_MS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

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

    assert vacuum.find_garbage(store, "samples", NOW_MS).paths == ()


def test_orphans_go_once_they_are_old_and_nothing_else_does(tmp_path):
    store = compacted(tmp_path, 5)
    rows = snapshot(store, "samples").scan(Bounds())
    orphan = write_file(store, "samples", rows)
    age(tmp_path, 30)
    young = write_file(store, "samples", rows)

    garbage = vacuum.find_garbage(store, "samples", NOW_MS)

    assert garbage.paths == (orphan.path,)
    assert garbage.nbytes == orphan.size
    assert vacuum.delete(garbage).files == 1
    assert (tmp_path / "samples" / young.path).exists()
    assert snapshot(store, "samples").scan(Bounds()).num_rows == 5


def test_the_log_stays_from_where_the_tier_above_reads_it(tmp_path):
    tables = WrittenTables(str(tmp_path))
    for n in range(6):
        tables.put([(1, BEGIN + n + 1, float(n))])
    much_later = NOW_MS + 30 * 24 * HOUR_MS

    assert vacuum.find_garbage(tables.store, "samples", much_later).keep_log_from == 0

    above = Table(tables.store, "rollup_1m")
    commit(above, [], transactions={positions.source("1m"): Step(None, 4)})

    assert vacuum.find_garbage(tables.store, "samples", much_later).keep_log_from == 4
    assert vacuum.find_garbage(tables.store, "samples", NOW_MS).keep_log_from == 0


def test_nothing_of_quarantine_goes_while_a_commit_is_owed_to_it(tmp_path):
    tables = WrittenTables(str(tmp_path))
    owed = {positions.rejects("bulk"): Step(None, 0)}
    commit(Table(tables.store, "samples"), [], transactions=owed)
    orphan = tmp_path / "quarantine" / "part-0.parquet"
    orphan.write_bytes(b"PAR1")
    os.utime(orphan, (1_700_000_000, 1_700_000_000))

    assert vacuum.find_garbage(tables.store, "quarantine", NOW_MS).paths == ()

    commit(Table(tables.store, "quarantine"), [], transactions=owed)

    assert vacuum.find_garbage(tables.store, "quarantine", NOW_MS).paths == ("part-0.parquet",)
