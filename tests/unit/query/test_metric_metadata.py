"""What senders say of metrics apart from their series is known of these, whenever it comes."""

import shutil

from tests.tables import WrittenTables
from varve.ingest.metadata_notes import MetadataNotes
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.metadata import Metadata
from varve.query.tables import Tables

NOW_MS = 1_795_392_000_000
BUCKET = define("latency_bucket", {"le": "1"}, help_text="Own.")


def test_it_fills_what_series_leave_open_by_their_name_or_that_of_their_family(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    # Tables of an earlier release have none of it.
    shutil.rmtree(tmp_path / "tables" / "metric_metadata")
    tables.define([BUCKET, define("up", {}, metric_type="gauge"), define("other", {})], NOW_MS)
    followed = Tables(tables.store, ["test"], 1 << 20, tiers_every_s=0.0)
    before = followed.view
    assert before.metadata() == {
        "latency_bucket": Metadata("unknown", "", "Own."),
        "up": Metadata("gauge"),
        "other": Metadata(),
    }

    notes = MetadataNotes(tables.store, ManualClock(NOW_MS))
    latency = Metadata("histogram", "seconds", "How long.")
    notes.note({"latency": latency, "up": Metadata("counter")})

    assert followed.poll()
    assert followed.view.metadata() == {
        "latency_bucket": Metadata("histogram", "seconds", "Own."),
        "latency": latency,
        "up": Metadata("gauge"),
        "other": Metadata(),
    }
    assert "latency" not in before.metadata()
    assert not followed.poll()
    followed.close()
