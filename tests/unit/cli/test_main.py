import io
import json
import os
import subprocess
import sys

import pytest

from varve.cli.main import COMMANDS, main


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


def test_status_of_a_home_never_used_says_how_to_start(capsys, monkeypatch):
    assert main(["status"]) == 0

    out = capsys.readouterr().out
    assert "nothing has run here: start with `varve up`" in out
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["progress"] is None


def test_reset_asks_before_it_deletes_and_cannot_ask_a_script(tmp_path, capsys, monkeypatch):
    table = tmp_path / ".varve" / "tables" / "samples"
    table.mkdir(parents=True)
    (table / "file").write_text("data")
    monkeypatch.setattr("sys.stdin", io.StringIO())

    assert main(["reset"]) == 1
    assert "--yes" in capsys.readouterr().err
    assert table.exists()

    assert main(["reset", "--yes"]) == 0
    assert not (tmp_path / ".varve" / "tables").exists()
    assert main(["reset", "--yes"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


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
