"""Whatever comes in whatever order, a series id belongs to one series and nothing is lost."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS, as_arrow
from tests.unit.ingest.test_task import plan
from varve.ingest import task
from varve.ingest.batch import BatchCommitter
from varve.ingest.decoder import Decoder
from varve.ingest.start_offsets import Start
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model import identity
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

COUNT = 8
PARTITION = Partition("samples", "id", 0)

batches = st.lists(
    st.lists(
        st.lists(st.sampled_from(range(COUNT)), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(batches, st.lists(st.booleans(), min_size=4, max_size=4))
def test_samples_are_stored_under_the_first_series_of_an_id_and_the_others_are_refused(
    tmp_path_factory, course, restarts
):
    with pytest.MonkeyPatch.context() as patch:
        # Ids of so few bits that series do collide.
        patch.setattr(identity, "_TEXT_MASK", 3)
        patch.setattr(task, "_decoder", Decoder())
        drive(tmp_path_factory, course, restarts)


def drive(tmp_path_factory, course, restarts):
    series = [define("m", {"n": str(n)}) for n in range(COUNT)]
    store = Store(str(tmp_path_factory.mktemp("tables")))
    create_tables(store, ("samples", "series", "quarantine"))
    registry, sent, offset = open_registry(store), [], 0
    for messages, restart in zip(course, restarts, strict=False):
        if restart:
            registry = open_registry(store)
        values = []
        for chosen in messages:
            rows = [(series[n], NOW_MS + len(sent) + k, float(n)) for k, n in enumerate(chosen)]
            sent += chosen
            values.append(as_arrow(rows))
        ingest(store, registry, values, offset)
        offset += len(values)

    registered = snapshot(store, "series").scan(Bounds(), ["series_id", "check"]).to_pylist()
    owners = {row["series_id"]: row["check"] for row in registered}
    assert len(owners) == len(registered) == len({series[n].series_id for n in sent})
    kept = [n for n in sent if owners[series[n].series_id] == series[n].check]
    stored = snapshot(store, "samples").scan(Bounds(), ["series_id", "value"]).to_pylist()
    assert Counter(int(row["value"]) for row in stored) == Counter(kept)
    assert {(row["series_id"], int(row["value"])) for row in stored} == {
        (series[n].series_id, n) for n in kept
    }
    refused = snapshot(store, "quarantine").scan(Bounds(), ["reason", "samples"]).to_pylist()
    assert {row["reason"] for row in refused} <= {"id_collision"}
    assert sum(row["samples"] for row in refused) == len(sent) - len(kept)


def ingest(store, registry, values, offset):
    """As a query does: tasks, registration, and again what was refused."""
    messages = [Message("samples", 0, offset + n, NOW_MS, value) for n, value in enumerate(values)]
    registry.index.advance()
    first = plan(store, series_version=registry.index.version)
    outcomes = list(run_task(messages, first))
    refused = registry.register([d for o in outcomes for d in o.definitions])
    if refused:
        again = replace(first, refused=refused, series_version=registry.index.version)
        outcomes = list(run_task(messages, again))
    start = Start(offset or None, offset)
    committer = BatchCommitter(store, "bulk", {PARTITION: start})
    committer.commit({PARTITION: OffsetRange(offset, offset + len(values))}, outcomes)
