"""Footers that are kept on disk spare requests to the store, and are never taken for others."""

from __future__ import annotations

import sqlite3

import pytest

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.promql.interrupt import never
from varve.query.decoded_files import DecodedFiles
from varve.query.kept_footers import KeptFooters
from varve.storage.snapshot import snapshot

UP = define("up", {"instance": "a"})
FILES = 12


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    written = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    for i in range(FILES):
        written.put([(UP.series_id, 60_000 * i + k, float(k)) for k in range(1 + i)])
    return written


def started(tables, path, max_bytes=1 << 20):
    """What a process that starts reads footers by, and the files that it asks the store for."""
    opened = []

    def open_file(table, file):
        opened.append(file)
        return tables.store.open_file(table, file)

    footers = KeptFooters(path, max_bytes)
    return DecodedFiles(open_file, 1 << 20, footers=footers), footers, opened


def read(tables, path, max_bytes=1 << 20):
    """The rows of each row group by footers, and how many files were opened for them."""
    paths = [file.path for file in snapshot(tables.store, "samples").files]
    files, footers, opened = started(tables, path, max_bytes)
    found = list(files.footers("samples", paths, never))
    files.close()
    footers.close()
    zones = [(one.zones.first_ms.tolist(), one.zones.last_ms.tolist()) for one in found]
    return [one.metadata.num_rows for one in found], zones, len(opened)


def test_a_process_that_starts_again_asks_the_store_for_no_footer(tables, tmp_path):
    path = tmp_path / "footers" / "samples.sqlite"

    first = read(tables, path)
    second = read(tables, path)

    assert (first[2], second[2]) == (FILES, 0)
    assert first[:2] == second[:2]


def test_a_footer_that_is_damaged_is_asked_for_again(tables, tmp_path):
    path = tmp_path / "samples.sqlite"
    first = read(tables, path)
    with sqlite3.connect(path) as database:
        bodies = database.execute("SELECT id, body FROM footers").fetchall()
        for number, body in bodies[:5]:
            at = len(body) // 2
            damaged = body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :]
            database.execute("UPDATE footers SET body = ? WHERE id = ?", (damaged, number))

    second = read(tables, path)

    assert second == (*first[:2], 5)
    assert read(tables, path)[2] == 0


def test_a_file_that_is_no_database_is_made_anew(tables, tmp_path):
    path = tmp_path / "samples.sqlite"
    path.write_bytes(b"something else" * 100)

    read(tables, path)

    assert read(tables, path)[2] == 0


def test_a_folder_that_cannot_be_written_costs_requests_alone(tables, tmp_path):
    (tmp_path / "file").write_text("")

    assert read(tables, tmp_path / "file" / "samples.sqlite")[2] == FILES


def test_footers_stay_within_their_bound_and_the_newest_are_kept(tables, tmp_path):
    path = tmp_path / "samples.sqlite"
    read(tables, path)
    with sqlite3.connect(path) as database:
        (whole,) = database.execute("SELECT sum(length(body)) FROM footers").fetchone()
    path.unlink()

    read(tables, path, whole // 2)

    with sqlite3.connect(path) as database:
        (kept,) = database.execute("SELECT sum(length(body)) FROM footers").fetchone()
    assert whole // 4 < kept <= whole // 2
    assert 0 < read(tables, path)[2] < FILES
