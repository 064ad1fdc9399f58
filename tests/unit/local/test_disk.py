import os

import pytest

from tests.small_disk import fill, mounted
from varve.local.disk import Disks


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", 100) as folder:
        yield folder


def test_a_disk_with_less_than_the_floor_is_short_until_there_is_half_as_much_again(disk):
    disks = Disks({"home": disk}, floor_mb=8)
    assert disks.look() is None

    filler = fill(disk, leave_bytes=7 * 2**20)
    short = disks.look()
    assert short.why == f"the disk of the home ({disk}) is full: less than 8 MiB are free"
    assert not short.severe

    os.truncate(filler, filler.stat().st_size - 3 * 2**20)
    assert disks.look() == short
    os.truncate(filler, filler.stat().st_size - 3 * 2**20)
    assert disks.look() is None


def test_with_less_than_half_the_floor_it_is_severe(disk):
    disks = Disks({"home": disk}, floor_mb=8)
    fill(disk, leave_bytes=3 * 2**20)

    assert disks.look().severe


def test_of_a_small_disk_a_tenth_is_enough(disk):
    disks = Disks({"home": disk}, floor_mb=100_000)

    assert disks.look() is None
    assert disks.spaces["home"].floor_bytes == 10 * 2**20


def test_the_fullest_disk_counts_wherever_it_is(disk, tmp_path):
    fill(disk)
    disks = Disks({"home": tmp_path, "tables": disk / "not" / "yet"}, floor_mb=8)

    short = disks.look()

    assert short.severe
    assert "the disk of the tables" in short.why
    assert disks.spaces["tables"].free_bytes < 2**20


def test_a_floor_of_nothing_is_never_reached(disk):
    fill(disk)

    assert Disks({"home": disk}, floor_mb=0).look() is None
