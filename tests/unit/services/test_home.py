import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from varve.model.errors import NeedsOperator
from varve.services.home import Home, identity, require_data
from varve.services.status import ComponentStatus
from varve.settings import Settings

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


def _fill(path, *parts):
    for part in parts:
        (path / part).mkdir(parents=True)
        (path / part / "file").write_text("12345")


def test_only_what_varve_made_is_deleted(tmp_path):
    home = Home.at(tmp_path)
    with home.held():
        home.mark()
        _fill(tmp_path, "tables/samples", "kafka", "run", "photos")

        assert home.parts() == {"tables": 5, "kafka": 5, "run": 5}
        home.delete_data()

    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "photos"]


@pytest.mark.parametrize("part", ["tables", "logs", "run", "kafka", "spark"])
def test_a_folder_of_somebody_elses_is_neither_used_nor_touched(tmp_path, part):
    _fill(tmp_path, part)
    (tmp_path / "demo-summary.json").symlink_to("nowhere")

    with (
        pytest.raises(NeedsOperator, match=rf"is no home of Varve, and has .*{part}.*--home"),
        Home.at(tmp_path).held(),
    ):
        pass

    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo-summary.json", part]


def test_tables_of_somebody_elses_by_the_same_names_are_no_home(tmp_path):
    schema = pa.schema({"id": pa.int64(), "value": pa.float64()})
    DeltaTable.create(str(tmp_path / "tables" / "samples"), schema)

    assert not Home.at(tmp_path).recognised()


HOMES = sorted((Path(__file__).parents[2] / "fixtures").glob("home-*"))


@pytest.mark.parametrize("made", HOMES, ids=lambda home: home.name)
def test_a_home_of_an_earlier_release_is_known_and_gets_its_mark(tmp_path, made):
    shutil.copytree(made, tmp_path / "home")
    home = Home.at(tmp_path / "home")
    assert home.recognised()
    assert home.id is None

    with home.held():
        home.mark()
        first = home.id
        home.mark()

    assert home.id == first is not None
    (tmp_path / "home").rename(tmp_path / "moved")
    assert Home.at(tmp_path / "moved").id == first


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run/query.status.json", None),
        ("kafka/server.properties", "# Written by Varve at every start; change the settings"),
    ],
)
def test_a_home_whose_first_start_failed_early_is_known(tmp_path, file, text):
    if text is None:
        ComponentStatus(tmp_path, "query").update(state="starting")
    else:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(text)

    assert Home.at(tmp_path).recognised()


def test_what_links_lead_to_is_neither_counted_nor_deleted(tmp_path):
    outside = tmp_path / "outside"
    _fill(outside, "tables", "within")
    home = Home.at(tmp_path / "home")
    with home.held():
        home.mark()
        (home.path / "tables").symlink_to(outside / "tables")
        home.logs.mkdir()
        (home.logs / "more").symlink_to(outside / "within")
        (home.logs / "file").symlink_to(outside / "within" / "file")

        assert sum(home.parts().values()) < 500
        home.delete_data()

    assert [(outside / part / "file").read_text() for part in ("tables", "within")] == ["12345"] * 2
    assert home.parts() == {}


def test_a_deletion_that_was_cut_short_is_finished_by_the_next(tmp_path, monkeypatch):
    shutil.copytree(HOMES[0], tmp_path / "home")
    home = Home.at(tmp_path / "home")
    _fill(home.path, "kafka", "logs")
    delete = shutil.rmtree

    def fail_on_logs(path):
        if path.name == "logs":
            raise OSError("busy")
        delete(path)

    with monkeypatch.context() as patched, home.held():
        patched.setattr(shutil, "rmtree", fail_on_logs)
        with pytest.raises(OSError, match="busy"):
            home.delete_data()
    assert list(home.parts()) == ["logs"]

    with home.held():
        home.delete_data()

    assert home.parts() == {}
    assert not home.recognised()


def test_a_home_that_is_not_there_is_no_empty_one_but_tables_elsewhere_are_enough(tmp_path):
    missing = tmp_path / "none"

    with pytest.raises(NeedsOperator, match=f"there is no home {missing}"):
        require_data(Settings(home=missing))

    require_data(Settings(home=tmp_path))
    require_data(Settings.model_validate({"home": missing, "storage": {"root": "s3://a/b"}}))


def test_homes_and_roots_have_identities_of_their_own(tmp_path):
    first, second = (Home.at(tmp_path / name) for name in ("first", "second"))
    for home in (first, second):
        with home.held():
            home.mark()
    (tmp_path / "link").symlink_to(first.path)

    def of(home, root=""):
        return identity(Settings.model_validate({"home": home, "storage": {"root": root}}))

    assert of(first.path) == of(tmp_path / "link") == first.id
    assert len({of(first.path), of(second.path), of(tmp_path), of(first.path, "s3://a/b")}) == 4
    assert of(first.path, "s3://a/b/") == of(second.path, "s3://a/b")
    assert of(tmp_path, str(first.path)) == of(tmp_path, str(tmp_path / "link"))
