import json
import logging

import pytest

from varve.services.logs import Sparing, configure_for, configure_logging
from varve.settings import load


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


@pytest.fixture
def restored():
    """The root logger, as it was before."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level
    logging.captureWarnings(capture=False)


def test_as_json_a_line_is_one_object_with_its_fields(capsys, restored):
    configure_logging(form="json")
    log = logging.getLogger("varve.spark.ingest")

    log.info("batch", extra={"fields": {"query": "bulk", "in": 3, "level": "mine"}})
    try:
        json.loads("two\nlines")
    except ValueError:
        log.exception("went %s", "wrong")

    batch, error = map(json.loads, capsys.readouterr().err.splitlines())
    stamp = batch.pop("ts")
    assert len(stamp) == len("2026-11-22T09:00:00.000Z")
    assert stamp.endswith("Z")
    assert batch == {
        "level": "INFO",
        "logger": "varve.spark.ingest",
        "message": "batch",
        "query": "bulk",
        "in": 3,
    }
    assert (error["level"], error["message"]) == ("ERROR", "went wrong")
    assert error["exception"].startswith("Traceback")
    assert "JSONDecodeError: Expecting value" in error["exception"]


def test_as_text_the_fields_follow_the_words(capsys, restored):
    configure_logging()

    logging.getLogger("varve.x").info("batch", extra={"fields": {"in": 3}})

    assert capsys.readouterr().err.endswith('Z INFO  varve.x batch {"in": 3}\n')


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_log_shows_a_secret_whoever_writes_it(capsys, restored, form):
    jaas = 'org.apache.kafka.X required username="u" password="s3cr\\"et";'
    env = {
        "VARVE_KAFKA__OPTIONS__SASL_JAAS_CONFIG": jaas.replace('\\"', "-"),
        "VARVE_STORAGE__OPTIONS__AWS_SECRET_ACCESS_KEY": 'hush"quoted',
        "VARVE_KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_SSL",
        "VARVE_LOGS__FORMAT": form,
    }
    settings, _ = load(env=env)
    configure_for(settings)
    log = logging.getLogger("kafka.conn")

    log.error("with %s by SASL_SSL", settings.kafka.client_options())
    log.error("the password s3cr-et is wrong", extra={"fields": {"key": 'hush"quoted'}})
    try:
        int('hush"quoted')
    except ValueError:
        log.exception("no")

    said = capsys.readouterr().err
    assert "s3cr-et" not in said
    assert "hush" not in said
    assert "SASL_SSL" in said
    assert said.count("***") >= 3
    if form == "json":
        assert all(json.loads(line)["message"] for line in said.splitlines())


def test_the_level_is_a_setting(capsys, restored):
    configure_for(load(env={"VARVE_LOGS__LEVEL": "ERROR"})[0])

    logging.getLogger("varve.x").warning("quiet")
    logging.getLogger("varve.x").error("loud")

    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["loud"]
