import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from varve.setup.console import SetupError
from varve.setup.jars import expected_sums

ROOT = Path(__file__).resolve().parents[3]


def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
    """Set-up as the Makefile runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "varve.setup", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "pipelines", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_cannot_go_on_ends_with_status_1_and_one_line():
    process = start("preflight", PREFLIGHT_SKIP="memory,elephants")

    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert errors.startswith("Set-up stopped. PREFLIGHT_SKIP names elephants")
    assert errors.count("\n") == 1
    assert output == ""


def test_preflight_says_what_it_found():
    process = start("preflight", PREFLIGHT_SKIP="java memory disk")

    output, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert output.startswith("  Python 3.11 in ")


def test_a_second_set_up_of_the_checkout_waits_for_the_first():
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        process = start("preflight", PREFLIGHT_SKIP="java memory disk")

        assert process.stdout.readline().startswith("Waiting for another set-up")
        assert process.poll() is None
    finally:
        os.close(folder)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Python 3.11" in output


def test_the_committed_sums_have_both_kinds_and_name_a_jar_once():
    sums = expected_sums(ROOT)

    assert any(name.startswith("delta-spark") for name in sums["spark"])
    assert any(name.startswith("kafka_2.13") for name in sums["kafka"])


def test_a_damaged_file_of_sums_is_an_error_that_says_so(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "jars.sha256").write_text("abc  spark/x.jar\n")

    with pytest.raises(SetupError, match="restore it with git"):
        expected_sums(tmp_path)
