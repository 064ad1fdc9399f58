"""Tables on a file system that has no room left, a small one of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from varve.model.errors import StorageFull, TemporaryError
from varve.storage import checkpoint
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import list_versions
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

SIZE = 2 << 20
PAGE = 4_096


class Disk:
    """A store on a file system of SIZE bytes, and a file that takes up its room."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(str(folder / "tables"))
        self._ballast = folder / "ballast"
        create_tables(self.store, ("samples",))

    def fill(self, leave: int = 0) -> None:
        """Takes all room but `leave` bytes."""
        self.empty()
        with self._ballast.open("wb", buffering=0) as out:
            with suppress(OSError):
                while out.write(bytes(PAGE)):
                    pass
            out.truncate(max(self._ballast.stat().st_size // PAGE * PAGE - leave, 0))

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def files(self) -> set[Path]:
        return {path for path in Path(self.store.root).rglob("*") if path.is_file()}

    def write(self, rows: int, ts: int = 1):
        rng = np.random.default_rng(ts)
        columns = {
            "series_id": np.sort(rng.integers(-(2**62), 2**62, rows)),
            "ts": np.full(rows, ts),
            "value": rng.random(rows),
        }
        return write_file(self.store, "samples", pa.table(columns))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("leave", [0, 1, 10])
def test_a_data_file_without_room_leaves_nothing_and_fits_later(disk, leave):
    disk.fill(leave * PAGE)
    before = disk.files()

    with pytest.raises(StorageFull, match="no room to write part-") as failure:
        disk.write(20_000)

    assert isinstance(failure.value, TemporaryError)
    assert isinstance(failure.value, OSError)
    assert failure.value.errno == errno.ENOSPC
    assert disk.files() == before
    disk.empty()
    new = disk.write(20_000)
    commit(Table(disk.store, "samples"), [new], transactions={"a": Step(None, 1)})
    assert snapshot(disk.store, "samples").scan(Bounds()).num_rows == 20_000


def test_a_commit_without_room_leaves_nothing_and_the_same_handle_commits_later(disk):
    table, new = Table(disk.store, "samples"), disk.write(10)
    # Room for the start of the entry, and not for all of it.
    disk.fill(PAGE)
    before = disk.files()
    metadata = {"text": "x" * 3 * PAGE}

    with pytest.raises(StorageFull, match=r"no room to write .*1\.json"):
        commit(table, [new], transactions={"a": Step(None, 1)}, metadata=metadata)

    assert disk.files() == before
    assert table.version == 0
    assert Table(disk.store, "samples").version == 0
    disk.empty()
    assert commit(table, [new], transactions={"a": Step(None, 1)}, metadata=metadata) == 1
    assert snapshot(disk.store, "samples").scan(Bounds()).num_rows == 10


def test_without_room_for_a_checkpoint_commits_go_on_and_leave_no_part_of_one(disk, caplog):
    table = Table(disk.store, "samples")
    for number in range(98):
        # The names of so many pieces of work make a checkpoint of some size.
        step = {f"{number}-{n}-{os.urandom(20).hex()}": Step(None, 1) for n in range(10)}
        commit(table, [], transactions=step)
    disk.fill(3 * PAGE)

    for number in range(2):
        commit(table, [], transactions={f"b{number}": Step(None, 1)})
    settle()

    assert table.version == 100
    assert "no checkpoint at version 99" in caplog.text
    assert "no room to write" in caplog.text
    assert {p.suffix for p in disk.files()} == {".json"}
    assert Table(disk.store, "samples").positions() == table.positions()
    disk.empty()
    checkpoint.write(disk.store, "samples", table.version)
    assert checkpoint.list_versions(disk.store, "samples") == [100]
    assert Table(disk.store, "samples").positions() == table.positions()


def test_the_checkpoints_there_are_survive_one_without_room(disk):
    table = Table(disk.store, "samples")
    for number in range(6):
        transactions = {f"{number}-{os.urandom(2_000).hex()}": Step(None, 1)}
        commit(table, [], transactions=transactions)
        checkpoint.write(disk.store, "samples", table.version)
    commit(table, [], transactions={os.urandom(2_000).hex(): Step(None, 1)})
    disk.fill(PAGE)
    before, hint = disk.files(), checkpoint.read_hint(disk.store, "samples")

    with pytest.raises(StorageFull, match="checkpoint"):
        checkpoint.write(disk.store, "samples", table.version)

    assert disk.files() == before
    assert checkpoint.read_hint(disk.store, "samples") == hint == checkpoint.Hint(6, (4, 5))
    assert Table(disk.store, "samples").positions() == table.positions()


def test_a_table_that_could_not_be_created_for_want_of_room_is_created_later(disk):
    disk.fill()
    other = Store(f"{disk.store.root}/other")

    with pytest.raises(OSError, match="No space left|no room"):
        create_tables(other, ("series",))

    disk.empty()
    create_tables(other, ("series",))
    assert Table(other, "series").version == 0


def test_writers_that_meet_a_full_disk_again_and_again_store_every_row_once(disk):
    table, stored = Table(disk.store, "samples"), 0
    for attempt in range(60):
        if attempt % 3:
            disk.fill(PAGE * (attempt % 7))
        else:
            disk.empty()
        try:
            table.refresh()
            at = table.position("a")
            commit(
                table,
                [disk.write(30, ts=(at or 0) + 1)],
                transactions={"a": Step(at, (at or 0) + 1)},
            )
            stored += 1
        except StorageFull:
            continue
    disk.empty()

    times = snapshot(disk.store, "samples").scan(Bounds()).column("ts").to_pylist()

    assert 0 < stored < 60
    assert sorted(times) == sorted(list(range(1, stored + 1)) * 30)
    assert len(list_versions(disk.store, "samples")) == stored + 1


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(60)
