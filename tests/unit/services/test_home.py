import os
import subprocess
import sys

import pytest

from varve.model.errors import NeedsOperator
from varve.services.home import Home

HOLD = """
import sys
from pathlib import Path
from varve.services.home import Home
with Home.at(Path(sys.argv[1])).held():
    print("held", flush=True)
    input()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_the_home(tmp_path, holder):
    with (
        pytest.raises(NeedsOperator, match=rf"held by process {holder.pid} since .*--home"),
        Home.at(tmp_path).held(),
    ):
        pass


def test_a_home_is_free_once_its_holder_was_killed(tmp_path, holder):
    holder.kill()
    holder.wait()

    with Home.at(tmp_path).held():
        pass


def test_a_home_that_cannot_be_made_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(NeedsOperator, match="choose another with --home"),
        Home.at(tmp_path / "file" / "home").held(),
    ):
        pass


def test_only_what_varve_made_is_deleted(tmp_path):
    home = Home.at(tmp_path)
    for part in ("tables/samples", "kafka", "run", "photos"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "file").write_text("12345")

    assert home.size_bytes() == {"tables": 5, "kafka": 5, "run": 5}
    home.delete_data()

    assert [p.name for p in tmp_path.iterdir()] == ["photos"]
