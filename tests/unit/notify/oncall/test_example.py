"""conf/oncall.yml, the example, can be used as it is, and with all that it has commented out."""

import re

import pytest

from varve.model.resources import conf_dir
from varve.notify.config.load import read_config
from varve.notify.matchers import Mode
from varve.notify.oncall.load import load_on_call

NAMES = ("anna", "ben", "carl", "team", "boss", "chat")
RECEIVERS = read_config(
    "route: {receiver: team}\nreceivers:\n"
    + "".join(f"- name: {name}\n  webhook_configs: [{{url: 'http://{name}/'}}]\n" for name in NAMES)
).receivers
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20261101T000000Z
DTSTART:20261231T000000Z
DTEND:20270101T000000Z
SUMMARY:carl
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.parametrize("whole", [False, True], ids=["as it is", "with what is commented out"])
def test_the_example_can_be_used(tmp_path, whole):
    text = (conf_dir() / "oncall.yml").read_text()
    if whole:
        text = re.sub(r"(?m)^( *)# ((?:ical|acknowledge_links): )", r"\1\2", text)
    (tmp_path / "oncall.yml").write_text(text)
    (tmp_path / "holidays.ics").write_text(CALENDAR.replace("\n", "\r\n"))
    (tmp_path / "ack.key").write_text("0123456789abcdef" * 4)

    found = load_on_call(tmp_path / "oncall.yml", RECEIVERS, Mode.FALLBACK)

    assert (found.links is not None) == whole
    assert [step.after_ms for step in found.chains["team"]] == [0, 900_000, 2_700_000]
    assert set(found.throttles) == {"chat"}
