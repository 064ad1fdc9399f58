"""What becomes of the old rows of tables that say what happened."""

import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.old_files import KEPT_MS
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, TIERS
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

NOW_MS = 1_795_392_000_000
LONG_AGO = NOW_MS - KEPT_MS - 10 * DAY_MS


@pytest.fixture
def store(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    tier = TIERS[0]
    commit(Table(tables.store, tier.table), [], transactions={"frontier:1m": Step(None, NOW_MS)})
    return tables.store


def change(name, state, at_ms, **fields):
    return {
        "event_id": f"{name} {at_ms}",
        "fingerprint": name,
        "rule": name,
        "state": state,
        "labels": {"alertname": name},
        "annotations": {},
        "starts_at": at_ms,
        "evaluated_at": at_ms,
        "rule_group": "rules.yml;group",
        **fields,
    }


def put(store, *rows):
    table = Table(store, "alerts")
    file = write_file(store, "alerts", pa.Table.from_pylist(rows, table_schema("alerts").arrow))
    held = table.position("test")
    commit(table, [file], transactions={"test": Step(held, 0 if held is None else held + 1)})


def expire(store):
    job = Expiration(store, Retention({"samples": DAY_MS}))
    return execute(job, store, NOW_MS, only=["alerts"])


def events(store):
    return sorted(snapshot(store, "alerts").scan(Bounds(), ["event_id"])["event_id"].to_pylist())


def test_an_alert_that_has_fired_ever_since_stays_when_the_others_of_its_time_go(store):
    put(
        store,
        change("ended", "firing", LONG_AGO),
        change("ended", "resolved", LONG_AGO + 1),
        change("open", "pending", LONG_AGO),
        change("open", "firing", LONG_AGO + 1),
        change("open", "firing", LONG_AGO + 2, review="same"),
        change("ended later", "firing", LONG_AGO),
    )
    put(store, change("ended later", "resolved", NOW_MS - DAY_MS))

    expire(store)

    assert events(store) == [f"ended later {NOW_MS - DAY_MS}", f"open {LONG_AGO + 1}"]
    assert expire(store).as_json()["planned"]["expiries"] == []


def test_a_file_with_a_row_that_is_not_old_stays_as_a_whole(store):
    put(store, change("a", "resolved", LONG_AGO), change("b", "resolved", NOW_MS))

    expire(store)

    assert len(events(store)) == 2
