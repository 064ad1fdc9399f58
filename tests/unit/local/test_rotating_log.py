import json
import logging

import pytest

from tests.small_disk import fill, mounted
from varve.local.rotating_log import RotatingLog
from varve.services.logs import configure_logging


def test_a_log_is_rotated_between_lines_and_three_older_ones_are_kept(tmp_path):
    log = RotatingLog(tmp_path, "part", 30)
    for number in range(20):
        log.write(f"line number {number:2}\n".encode())
    log.close()

    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["part.log", "part.log.1", "part.log.2", "part.log.3"]
    assert all(f.stat().st_size <= 30 for f in files)
    kept = [line for f in reversed(files) for line in f.read_text().splitlines()]
    assert kept == [f"line number {n:2}" for n in range(12, 20)]


def test_the_next_start_appends(tmp_path):
    for number in range(2):
        log = RotatingLog(tmp_path, "part", 1_000)
        log.write(f"start {number}\n".encode())
        log.close()

    assert (tmp_path / "part.log").read_text() == "start 0\nstart 1\n"


def test_last_lines_leave_empty_ones_out(tmp_path):
    log = RotatingLog(tmp_path, "part", 1_000)
    for line in (b"one\n", b"two\n", b"\n", b"three\xff\n"):
        log.write(line)

    assert log.last_lines(2) == ["two", "three\N{REPLACEMENT CHARACTER}"]
    log.close()


def test_the_last_error_is_the_last_line_that_names_one(tmp_path):
    log = RotatingLog(tmp_path, "part", 1_000)
    assert log.last_error() == ""
    log.write(b"all is well\n")
    log.write(b"\tat java.base/sun.nio.ch.Net.bind0(Native Method)\n")
    assert log.last_error() == "all is well"
    for line in (b"KeyError: 'a'\n", b"OSError: no space\n", b"Thread State: RUNNABLE\n"):
        log.write(line)
    assert log.last_error() == "OSError: no space"
    for line in (b"2026-01-01 ERROR another part has failed\n", b"varve serve: a column is new\n"):
        log.write(line)
    assert log.last_error() == "varve serve: a column is new"
    log.close()


def test_on_a_full_disk_lines_are_dropped_counted_and_never_torn(tmp_path):
    with mounted(tmp_path / "disk", 1) as disk:
        log = RotatingLog(disk / "logs", "part", 10_000_000)
        log.write(b"before\n")
        filler = fill(disk, leave_bytes=8_000)
        for number in range(20):  # the first one or two fit
            log.write(f"{number} {'x' * 5_000}\n".encode())
        kept = log.path.read_bytes()
        assert kept.endswith(b"x\n")
        assert len(kept) < 20_000

        filler.unlink()
        log.write(b"after\n")
        log.close()

        lines = log.path.read_text().splitlines()
        whole = [line for line in lines if line.endswith("x" * 5_000)]
        assert lines == [
            "before",
            *whole,
            f"({20 - len(whole)} lines could not be written)",
            "after",
        ]
        assert log.last_lines(1) == ["after"]


def test_a_log_whose_folder_cannot_be_made_yet_goes_on_once_it_can(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    log = RotatingLog(tmp_path / "logs", "part", 1_000)
    log.write(b"lost\n")
    (tmp_path / "logs").unlink()

    log.write(b"kept\n")
    log.close()

    assert log.path.read_text() == "(1 lines could not be written)\nkept\n"


@pytest.fixture
def restored():
    """The root logger, as it was before."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level
    logging.captureWarnings(capture=False)


def test_of_a_log_of_json_the_last_words_are_for_people(tmp_path, capsys, restored):
    configure_logging(form="json")
    try:
        json.loads("")
    except ValueError:
        logging.getLogger("varve.x").exception("cannot go on")
    logging.getLogger("varve.x").info("batch", extra={"fields": {"in": 1}})
    spark = {"level": "ERROR", "msg": "lost", "exception": {"class": "E", "msg": "gone"}}
    log = RotatingLog(tmp_path, "part", 10_000)
    for line in (*capsys.readouterr().err.splitlines(), "plain", json.dumps(spark), "{half"):
        log.write(f"{line}\n".encode())

    broken = "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    assert log.last_lines(5) == [
        f"ERROR cannot go on: {broken}",
        "INFO batch",
        "plain",
        "ERROR lost: E: gone",
        "{half",
    ]
    assert log.last_error() == "ERROR lost: E: gone"
    log.close()
