import logging

from varve.services.logs import RotatingLog, Sparing


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
    log.close()


def _record(name, message, created):
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)
    record.created = created
    return record


def test_a_chatty_library_says_each_thing_once_a_minute_and_others_are_left_alone():
    sparing = Sparing("kafka")

    assert sparing.filter(_record("kafka.net", "gone", 0.0 + 100))
    assert not sparing.filter(_record("kafka.net", "gone", 159.0))
    assert sparing.filter(_record("kafka.net", "other", 159.0))
    assert sparing.filter(_record("kafka.net", "gone", 161.0))
    assert sparing.filter(_record("varve.x", "gone", 161.0))
    assert sparing.filter(_record("varve.x", "gone", 161.0))
