"""`varve rules backtest` over the tables of a home."""

import json

import pytest

from tests.unit.rules.running.test_runner import RULES, live
from tests.unit.rules.running.world import START_MS, Process, World
from varve.cli.main import main

NOTIFY = """
route: {receiver: r, group_by: [alertname], group_wait: 1s, group_interval: 5s}
receivers: [{name: r, webhook_configs: [{url: 'http://h.example/'}]}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    world = World(str(home / "tables"))
    process = Process(world, RULES)
    live(world, process, 60)
    world.ingest()
    process.close()
    (home / "rules.yml").write_text(RULES)
    (home / "old.yml").write_text(RULES.replace("> 10", "> 1000"))
    (home / "notify.yml").write_text(NOTIFY)
    return home


def run(home, *more):
    start_s, end_s = START_MS // 1000, START_MS // 1000 + 55
    given = ["rules", "backtest", str(home / "rules.yml"), "--home", str(home)]
    return main([*given, "--from", str(start_s), "--to", str(end_s), *more])


def test_it_says_what_fired_and_who_was_told(home, capsys, monkeypatch):
    monkeypatch.setenv("VARVE_RULES__INTERVAL_S", "5")

    status = run(
        *(home, "--notify", str(home / "notify.yml"), "--against", str(home / "old.yml")),
        *("--format", "json"),
    )

    found = json.loads(capsys.readouterr().out)
    rules = {rule["name"]: rule for rule in found["rules"]}
    assert status == 0
    assert (rules["High"]["fired"], rules["High"]["flapped"]) == (2, 1)
    assert rules["twice"]["samples"] == 11
    assert [one["status"] for one in found["notifications"] if one["group"]["alertname"] == "High"]
    assert {one["labels"]["alertname"] for one in found["against"]["only_here"]} >= {"High"}


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_file_is_written_and_is_the_same_again_as_of_its_snapshot(home, tmp_path, capsys, form):
    run(home, "--format", "json")
    token = json.loads(capsys.readouterr().out)["snapshot"]
    paths = [tmp_path / "a", tmp_path / "b"]

    for path in paths:
        assert run(home, "--as-of", token, "--format", form, "--output", str(path)) == 0

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "High" in paths[0].read_text()


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (["--from", "yesterday"], "no duration such as 6h"),
        (["--to", "1"], "--to is before --from"),
        (["--notify", "/nowhere.yml"], "/nowhere.yml"),
        (["--against", "/nowhere.yml"], "/nowhere.yml"),
        (["--as-of", "x"], "no snapshot token"),
    ],
)
def test_what_cannot_be_used_is_said(home, capsys, more, wrong):
    assert run(home, *more) != 0
    assert wrong in capsys.readouterr().err
