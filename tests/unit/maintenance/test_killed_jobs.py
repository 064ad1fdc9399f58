"""SIGKILL hits each job of maintenance at everything it commits or deletes, or its disk is full:
the next run finishes what it has begun, and meanwhile nobody sees a row too many or too few.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_disk import mounted
from tests.unit.maintenance import killed_jobs

# A minute of CPU: a hundred deaths.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# What changes no row that readers see.
UNSEEN = {"compact", "tier", "vacuum", "backup"}
# It deletes.
NEED_NO_ROOM = {"vacuum"}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What killed_jobs.py says of each job: one process, as children are forked from it."""
    return run(tmp_path_factory.mktemp("killed jobs"))


@pytest.fixture(scope="module")
def said_of_a_full_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full disk")
    with mounted(folder / "disk", 64) as disk:
        return run(folder, "--disk", disk)


def run(*arguments):
    done = subprocess.run(
        [sys.executable, killed_jobs.__file__, *arguments],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'pipelines'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {told["job"]: told for told in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", killed_jobs.JOBS)
def test_a_job_that_is_killed_at_each_commit_is_finished_by_the_next_run(said, name):
    told = said[name]

    assert told["wrong"] == []
    assert told["same_end"]
    assert told["changed"] == (name not in UNSEEN)
    assert 1 <= told["deaths"] < killed_jobs.MOST


@pytest.mark.parametrize("name", [name for name in killed_jobs.JOBS if name not in NEED_NO_ROOM])
def test_a_job_whose_disk_is_full_is_finished_once_there_is_room(said_of_a_full_disk, name):
    told = said_of_a_full_disk[name]

    assert told["wrong"] == []
    assert told["same_end"]
    assert told["changed"] == (name not in UNSEEN)
    assert told["deaths"] >= 1
