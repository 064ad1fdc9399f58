import io
import json
import os
import re
import subprocess
import sys

import pytest

from varve.cli.main import COMMANDS, main
from varve.services.home import Home


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("VARVE_")]:
        monkeypatch.delenv(name)


def test_help_teaches_the_first_steps(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "varve up --demo" in text
    for name, _, summary in COMMANDS:
        assert name in text
        assert summary in text


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_the_help_of_every_command_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"  varve {name}" in text or "example" in text


def test_an_error_is_one_line_on_stderr(capsys, monkeypatch):
    monkeypatch.setenv("VARVE_KAFKA__PROT", "1")

    assert main(["config"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("varve config: VARVE_KAFKA__PROT: there is no setting kafka.prot; ")
    assert err.count("\n") == 1


def test_config_prints_values_and_origins(capsys):
    assert main(["config", "--home", "/data", "--changed", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == [
        {"key": "home", "value": '"/data"', "origin": "command line"}
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--json"),
        ("query", "up"),
        ("sql", "SELECT 1"),
        ("cardinality",),
        ("rollup", "status"),
    ],
)
def test_a_home_that_is_not_there_is_an_error(capsys, tmp_path, command):
    assert main([*command, "--home", "none"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"varve {command[0]}: there is no home {tmp_path / 'none'}: `varve up` makes one;"
        " --home names another\n"
    )
    assert not (tmp_path / "none").exists()


@pytest.fixture
def home(tmp_path):
    """One with a table, in the default place."""
    home = Home.at(tmp_path / ".varve")
    with home.held():
        home.mark()
        table = home.path / "tables" / "samples"
        table.mkdir(parents=True)
        (table / "file").write_bytes(bytes(3 * 2**20))
    return home


def test_reset_asks_before_it_deletes_and_cannot_ask_a_script(home, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())

    assert main(["reset"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"(?m)^  tables +3.0 MiB$", out)
    assert "--yes" in err
    assert (home.path / "tables" / "samples").exists()

    assert main(["reset", "--yes"]) == 0
    assert re.search(r"(?m)^  tables +3.0 MiB$", capsys.readouterr().out)
    assert not (home.path / "tables").exists()
    assert main(["reset", "--yes"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_reset_says_that_what_a_link_leads_to_stays(home, tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    (home.path / "kafka").symlink_to(tmp_path / "disk")

    assert main(["reset", "--yes"]) == 0

    assert f"(a link: what is in {tmp_path / 'disk'} stays)" in capsys.readouterr().out
    assert (tmp_path / "disk").is_dir()


def test_reset_touches_no_folder_that_varve_did_not_make(tmp_path, capsys):
    for part in ("tables", "logs", "run"):
        (tmp_path / part).mkdir()

    assert main(["reset", "--yes", "--home", "."]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert "is no home of Varve, and has tables, logs, run of somebody else's" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs", "run", "tables"]


def test_an_empty_home_is_refused_by_variable_and_option(tmp_path, capsys, monkeypatch):
    (tmp_path / "logs").mkdir()

    with pytest.raises(SystemExit, match="2"):
        main(["reset", "--yes", "--home", ""])
    assert "--home: it is empty" in capsys.readouterr().err
    monkeypatch.setenv("VARVE_HOME", "")
    assert main(["reset", "--yes"]) == 1
    assert capsys.readouterr().err == "varve reset: VARVE_HOME: home: is empty: name a folder\n"
    assert (tmp_path / "logs").exists()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_run_is_bounded_by_a_time_that_passes(capsys, seconds):
    with pytest.raises(SystemExit, match="2"):
        main(["up", "--for", seconds])

    assert "argument --for: " in capsys.readouterr().err


def test_a_service_says_by_its_exit_status_that_it_needs_an_operator(capsys, monkeypatch):
    monkeypatch.setenv("VARVE_KAFKA__PROT", "1")

    assert main(["serve", "collector"]) == 78
    assert "there is no setting kafka.prot" in capsys.readouterr().err


def test_help_does_not_import_what_it_does_not_need():
    code = (
        "import sys\nfrom varve.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pyspark', 'pyarrow', 'numba', 'kafka', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_no_command_imports_spark_before_it_is_asked_to_start_it(name):
    module = next(module for command, module, _ in COMMANDS if command == name)
    code = f"import sys, {module}; sys.exit('pyspark' in sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    answer = subprocess.run([sys.executable, "-c", code], env=environment, check=False)

    assert answer.returncode == 0


COMMANDS_THAT_PRINT = (["config"], ["config", "--template"], ["status", "--json"], ["--help"])


@pytest.mark.parametrize("command", COMMANDS_THAT_PRINT, ids=" ".join)
@pytest.mark.parametrize("target", [">&-", ">/dev/full", "| true"])
def test_output_that_goes_nowhere_is_no_traceback(command, target, tmp_path):
    home = Home.at(tmp_path)
    with home.held():
        home.mark()
    words = " ".join([*command, *(["--home", "."] if command != ["--help"] else [])])

    shell = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m varve.cli {words} {target}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert "Traceback" not in shell.stderr
    assert "Exception" not in shell.stderr
    if target == ">/dev/full" and command != ["--help"]:
        assert "No space left on device" in shell.stderr
        assert len(shell.stderr.splitlines()) == 1


def test_what_an_error_names_does_not_command_the_terminal(capsys):
    assert main(["config", "--config", "no\x1b[31mfile\nat all"]) == 1

    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\\u001b[31m" in said


@pytest.mark.parametrize(
    ("command", "variables", "words"),
    [
        (["config", "nosuch"], {}, "there are no settings that begin with 'nosuch'"),
        (["sql", "FROM series"], {"VARVE_STORAGE__ROOT": "ftp://x"}, "correct storage.root"),
        (["sql", "FROM series"], {"VARVE_STORAGE__ROOT": "://x"}, "correct storage.root"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_to_correct(
    command, variables, words, capsys, monkeypatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(command) == 1

    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_an_empty_kafka_is_refused_and_starts_no_broker(capsys):
    with pytest.raises(SystemExit):
        main(["up", "--kafka", " "])

    assert "argument --kafka: it is empty: name HOST:PORT" in capsys.readouterr().err
