"""Alerts on the terminal of `varve up`."""

import httpx

from varve.local.alert_log import alert_log, default_config
from varve.notify.config import load_config


def test_each_alert_of_a_message_is_a_line():
    said = []
    message = {
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "Hot", "room": "a"},
                "annotations": {"summary": "40 degrees"},
            },
            {"status": "resolved", "labels": {"alertname": "Cold"}},
        ],
        "truncatedAlerts": 3,
    }
    with alert_log(said.append) as url:
        answer = httpx.post(url, json=message)

    assert answer.status_code == 200
    assert said == [
        "alert fires: Hot {room=a}: 40 degrees",
        "alert is over: Cold {}",
        "and 3 more alerts of the group",
    ]


def test_what_is_no_message_is_refused():
    said = []
    with alert_log(said.append) as url:
        codes = [httpx.post(url, content=body).status_code for body in (b"", b"[]", b'{"a": 1}')]

    assert codes == [400, 400, 400]
    assert said == []


def test_the_configuration_that_ships_tells_the_log_and_nobody_else(tmp_path):
    path = default_config(tmp_path, "http://127.0.0.1:4711/")

    config = load_config(path)

    assert list(config.receivers) == ["varve-up"]
    assert "http://127.0.0.1:4711/" in path.read_text()
    assert "9697" not in path.read_text()
