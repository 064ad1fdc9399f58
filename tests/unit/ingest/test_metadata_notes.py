"""What senders say of metrics apart from their series is kept, whenever and in whatever order."""

import random

import pytest

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS
from varve.ingest import metadata_notes
from varve.ingest.metadata_notes import MetadataNotes
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.metadata import Metadata
from varve.storage.bounds import Bounds
from varve.storage.commit import commit, rewrite
from varve.storage.metric_metadata import TABLE, MetricMetadata
from varve.storage.snapshot import snapshot
from varve.storage.table import Table, existing

COUNTER = Metadata("counter", "", "Requests.")


def notes(store, now_ms=NOW_MS):
    return MetadataNotes(store, ManualClock(now_ms))


def known(store):
    table = MetricMetadata(store)
    table.look()
    return table.known


def newest_rows(store):
    """As a reader of the table does without us: of each metric the row with the newest time."""
    found = {}
    for row in sorted(
        snapshot(store, TABLE).scan(Bounds()).to_pylist(), key=lambda row: row["noted_at"]
    ):
        found[row["metric"]] = Metadata(row["type"], row["unit"], row["help"])
    return found


def test_tables_of_an_earlier_release_gain_the_table_when_something_is_said(store):
    assert existing(store, [TABLE]) == []
    assert known(store) == {}
    notes(store).note({})
    assert existing(store, [TABLE]) == []

    notes(store).note({"requests": COUNTER})

    assert known(store) == {"requests": COUNTER}


def test_what_is_said_again_or_otherwise_later_writes_nothing(store):
    one = notes(store)
    one.note({"requests": COUNTER})
    version = Table(store, TABLE).version

    one.note({"requests": COUNTER})
    notes(store).note({"requests": Metadata("gauge", "", "Others.")})

    assert Table(store, TABLE).version == version
    assert known(store) == {"requests": COUNTER}


def test_any_notes_of_several_drivers_whatever_their_clocks_say_end_as_if_said_to_one(store):
    rng = random.Random(5)
    drivers = [notes(store, NOW_MS + ms) for ms in (0, -5_000, 5_000)]
    expected = {}
    for _ in range(60):
        said = {
            f"m{rng.randrange(6)}": Metadata(
                rng.choice(["unknown", "gauge", "counter"]),
                rng.choice(["", "", "seconds"]),
                rng.choice(["", "", "Help.", "Other help."]),
            )
            for _ in range(2)
        }
        rng.choice(drivers).note(said)
        for name, one in said.items():
            expected[name] = expected.get(name, Metadata()).filled_by(one)

    assert known(store) == expected == newest_rows(store)


def test_files_are_merged_before_they_are_many(store):
    for n in range(40):
        notes(store).note({f"m{n}": COUNTER})

    assert len(snapshot(store, TABLE).files) <= 17
    assert known(store) == {f"m{n}": COUNTER for n in range(40)} == newest_rows(store)


def test_of_two_drivers_at_once_neither_note_is_lost(store, monkeypatch):
    notes(store).note({"a": COUNTER})

    def commit_late(table, adds, **options):
        monkeypatch.setattr(metadata_notes, "commit", commit)
        notes(store).note({"b": Metadata("gauge", "", "First."), "c": COUNTER})
        return commit(table, adds, **options)

    monkeypatch.setattr(metadata_notes, "commit", commit_late)
    notes(store).note({"b": Metadata("gauge", "bytes", "Second."), "d": COUNTER})

    assert known(store) == {
        "a": COUNTER,
        "b": Metadata("gauge", "bytes", "First."),
        "c": COUNTER,
        "d": COUNTER,
    }


def test_what_a_rival_notes_while_files_are_merged_stays(store, monkeypatch):
    for n in range(16):
        notes(store).note({f"m{n}": Metadata("gauge")})

    def rewrite_late(table, adds, removes, **options):
        monkeypatch.setattr(metadata_notes, "rewrite", rewrite)
        notes(store, NOW_MS - 60_000).note({"m0": Metadata(help="Late.")})
        return rewrite(table, adds, removes, **options)

    monkeypatch.setattr(metadata_notes, "rewrite", rewrite_late)
    notes(store).note({"m16": COUNTER})

    assert known(store)["m0"] == newest_rows(store)["m0"] == Metadata("gauge", "", "Late.")
    assert len(known(store)) == 17


def test_names_that_a_sender_makes_up_are_bounded_and_known_ones_are_still_filled(
    store, monkeypatch, caplog
):
    monkeypatch.setattr(metadata_notes, "MOST_METRICS", 3)
    one = notes(store)
    one.note({"a": Metadata("gauge")})

    one.note({f"made_up_{n}": COUNTER for n in range(5)} | {"a": Metadata(help="Filled.")})

    assert known(store).keys() == {"a", "made_up_0", "made_up_1"}
    assert known(store)["a"] == Metadata("gauge", "", "Filled.")
    assert "that of 3 more is dropped" in caplog.text


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (define("latency_bucket", {"le": "1"}), "histogram", "How long."),
        (define("latency_bucket", {"le": "2"}, help_text="Own."), "histogram", "Own."),
        (define("latency_bucket", {"le": "3"}, metric_type="counter"), "counter", "How long."),
        (define("others", {}), "unknown", ""),
    ],
    ids=["nothing", "help", "type", "other"],
)
def test_series_registered_later_have_it_where_they_say_nothing_themselves(store, said, kind, text):
    registry = open_registry(store)
    notes(store).note({"latency": Metadata("gaugehistogram", "seconds", "How long.")})  # a rival

    registry.register([(said, NOW_MS)])

    (row,) = snapshot(store, "series").scan(Bounds()).to_pylist()
    assert (row["type"], row["help"]) == (kind, text)
