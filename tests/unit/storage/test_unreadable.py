"""Which files of a table cannot be read, and that a storage that is away is none of them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.unreadable import find_unreadable


@pytest.fixture
def tables(tmp_path):
    made = WrittenTables(str(tmp_path / "tables"))
    for k in range(2):
        made.put([(series, 1_000 * k + series, float(series)) for series in range(500)])
    return made


def files(tables):
    return snapshot(tables.store, "samples").files


def path(tables, file):
    return Path(tables.store.uri("samples")) / file.path


def unreadable(tables):
    return find_unreadable(tables.store, "samples", files(tables))


def test_files_that_can_be_read_are_none_of_them(tables):
    assert unreadable(tables) == []


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b""), "has 0 bytes instead of"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "instead of"),
        (lambda file: file.write_bytes(bytes(file.stat().st_size)), "is damaged"),
        (
            lambda file: file.write_bytes(
                file.read_bytes()[:4] + b"\xff" * 200 + file.read_bytes()[204:]
            ),
            "is damaged",
        ),
    ],
    ids=["missing", "empty", "cut", "zeroed", "overwritten"],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(tables, damage, why):
    wanted = files(tables)[1]
    damage(path(tables, wanted))

    (found,) = unreadable(tables)

    assert found.file == wanted
    assert why in found.why
    assert str(found).startswith(f"samples/{wanted.path} {found.why}")
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("error", "is_file"),
    [(OSError("AWS Error NETWORK_CONNECTION"), False), (OSError(errno.EIO, "bad sector"), True)],
    ids=["storage", "sector"],
)
def test_a_storage_that_is_away_is_raised_and_a_bad_sector_is_of_its_file(
    tables, monkeypatch, error, is_file
):
    wanted = files(tables)
    filesystem = tables.store.filesystem("samples")

    class Failing:
        def get_file_info(self, name):
            return filesystem.get_file_info(name)

        def open_input_file(self, name):
            if name == wanted[0].path:
                raise error
            return filesystem.open_input_file(name)

    monkeypatch.setattr(Store, "filesystem", lambda _store, _table: Failing())

    if is_file:
        (found,) = find_unreadable(tables.store, "samples", wanted)
        assert found.file == wanted[0]
    else:
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            find_unreadable(tables.store, "samples", wanted)
