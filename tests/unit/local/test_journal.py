import json
import logging
import re

import pytest

from varve.local.journal import Journal
from varve.settings import load


@pytest.fixture
def restored():
    """The root logger, as it was before."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level
    logging.captureWarnings(capture=False)


@pytest.fixture
def journal(tmp_path, restored):
    shown = []

    def make(**env):
        journal = Journal(tmp_path, load(env=env)[0], shown.append)
        journal.shown = shown
        return journal

    return make


def test_what_is_said_has_its_time_on_the_terminal_and_in_the_log(journal, tmp_path):
    said = journal()
    said.say("kafka ready in 3.1 s")
    logging.getLogger("kafka.net").warning("connection lost")
    said.say("Summary\n  live samples 5")
    said.close()

    first, second = said.shown
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ kafka ready in 3.1 s", first)
    assert second.endswith("Z Summary\n  live samples 5")
    lines = (tmp_path / "up.log").read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"{stamp} INFO  varve.up kafka ready in 3.1 s", lines[0])
    assert re.fullmatch(rf"{stamp} WARNING kafka.net connection lost", lines[1])
    assert lines[3] == "  live samples 5"


def test_the_log_has_the_form_and_the_secrets_of_the_settings(journal, tmp_path):
    said = journal(
        VARVE_LOGS__FORMAT="json", VARVE_LOGS__LEVEL="ERROR", VARVE_STORAGE__OPTIONS__TOKEN="hush"
    )
    said.say("streams ended with exit status 1 (token hush is wrong)")
    logging.getLogger("varve.x").warning("left out by its level")
    said.close()

    (line,) = map(json.loads, (tmp_path / "up.log").read_text().splitlines())
    assert line["message"] == "streams ended with exit status 1 (token *** is wrong)"
    assert line["logger"] == "varve.up"
