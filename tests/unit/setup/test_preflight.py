from pathlib import Path

import pytest

from varve.setup.console import SetupError
from varve.setup.preflight import (
    DISK_BYTES,
    MEMORY_BYTES,
    disk_found,
    free_memory,
    memory_found,
    preflight,
    python_found,
)

GIB = 2**30


@pytest.fixture
def kernel(tmp_path):
    """Folders like /proc and /sys/fs/cgroup, with 16 GiB available and no limit."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(
        f"MemTotal: 33554432 kB\nMemAvailable:   {16 * GIB // 1024} kB\nBuffers: 1 kB\n"
    )
    (proc / "self" / "cgroup").write_text("0::/user.slice/session\n")
    (cgroups / "user.slice" / "session").mkdir(parents=True)
    return proc, cgroups


def limit(group: Path, maximum: str, used: int, droppable: int) -> None:
    (group / "memory.max").write_text(f"{maximum}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {droppable}\n")


def test_free_memory_is_what_the_kernel_calls_available(kernel):
    assert free_memory(*kernel) == 16 * GIB


def test_a_container_has_no_more_than_its_limit_leaves(kernel):
    _, cgroups = kernel
    limit(cgroups / "user.slice" / "session", "max", used=GIB, droppable=0)
    limit(cgroups / "user.slice", str(8 * GIB), used=5 * GIB, droppable=GIB)

    assert free_memory(*kernel) == 4 * GIB


def test_where_the_kernel_does_not_tell_memory_is_unknown_and_not_a_reason_to_stop(tmp_path):
    assert free_memory(tmp_path, tmp_path) is None
    assert "unknown" in memory_found(None)


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (lambda: memory_found(MEMORY_BYTES - 1), "stop other programs"),
        (lambda: disk_found(DISK_BYTES - 1, Path("/x")), "free some"),
        (lambda: python_found((3, 12), "/usr/bin/python3"), "PYTHON="),
    ],
)
def test_each_failure_is_one_line_that_says_what_to_do(check, says):
    with pytest.raises(SetupError) as error:
        check()

    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_just_enough_is_enough():
    assert memory_found(MEMORY_BYTES) == "6.0 GiB of memory free"
    assert disk_found(DISK_BYTES, Path("/x")) == "4.0 GiB of disk free"


def test_checks_can_be_skipped_by_name(tmp_path):
    found = list(preflight({}, tmp_path, skip=["java", "memory", "disk"]))

    assert [line.split()[0] for line in found] == ["Python"]


def test_an_unknown_name_to_skip_is_an_error_that_lists_the_known(tmp_path):
    with pytest.raises(SetupError, match="may name python, java, memory, disk"):
        list(preflight({}, tmp_path, skip=["ram"]))
