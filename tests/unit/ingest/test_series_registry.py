import random
from dataclasses import replace

import numpy as np
import pytest

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS
from varve.ingest import series_registry as registry_module
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesIdIndex
from varve.model.errors import Conflict, TemporaryError
from varve.model.identity import define
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.table import Table


def host(n):
    return define("up", {"host": str(n)}, metric_type="gauge", help_text="Whether it answers.")


def rival_of(series, n=1):
    """Another series with the same id."""
    return replace(host(10_000 + n), series_id=series.series_id)


def key(series):
    return series.series_id, series.check


def status(known, *series):
    ids = np.array([s.series_id for s in series], np.int64)
    return known.status(ids, np.array([s.check for s in series], np.int32)).tolist()


def rows(store):
    return snapshot(store, "series").scan(Bounds()).to_pylist()


def before_the_next_commit(monkeypatch, act):
    """Acts between a registry's look at the table and its commit, once."""

    def commit_late(table, adds, **options):
        monkeypatch.setattr(registry_module, "commit", commit)
        act()
        return commit(table, adds, **options)

    monkeypatch.setattr(registry_module, "commit", commit_late)


def test_a_definition_is_durable_with_the_time_of_its_earliest_sample(store):
    refused = open_registry(store).register([(host(1), NOW_MS), (host(1), NOW_MS - 5)])

    assert refused == {}
    (row,) = rows(store)
    assert (row["series_id"], row["check"]) == key(host(1))
    assert (row["metric"], row["tags"], row["type"]) == ("up", [("host", "1")], "gauge")
    assert (row["first_seen"], row["help"]) == (NOW_MS - 5, "Whether it answers.")


def test_registering_again_changes_nothing(store):
    registry = open_registry(store)
    registry.register([(host(1), NOW_MS)])
    version = Table(store, "series").version

    assert registry.register([(host(1), NOW_MS + 1)]) == {}
    assert open_registry(store).register([(host(1), NOW_MS + 1)]) == {}
    assert Table(store, "series").version == version


def test_a_series_whose_id_is_taken_is_refused_and_the_others_are_registered(store):
    registry = open_registry(store)
    registry.register([(host(1), NOW_MS)])

    refused = registry.register([(rival_of(host(1)), NOW_MS), (host(2), NOW_MS)])

    assert refused == {key(rival_of(host(1))): Reason.ID_COLLISION}
    assert {r["series_id"] for r in rows(store)} == {host(1).series_id, host(2).series_id}


def test_of_new_series_with_one_id_the_same_one_wins_in_any_order(store):
    contenders = [host(1), rival_of(host(1)), rival_of(host(1), 2)]
    winner = min(contenders, key=key)
    random.Random(3).shuffle(contenders)

    refused = open_registry(store).register([(s, NOW_MS) for s in contenders])

    assert set(refused) == {key(s) for s in contenders} - {key(winner)}
    assert [(r["series_id"], r["check"]) for r in rows(store)] == [key(winner)]


def test_drivers_see_what_each_other_has_registered(store):
    bulk, critical = open_registry(store), open_registry(store)
    bulk.register([(host(1), NOW_MS)])

    refused = critical.register([(rival_of(host(1)), NOW_MS), (host(1), NOW_MS)])

    assert set(refused) == {key(rival_of(host(1)))}
    assert len(rows(store)) == 1


def test_a_rival_that_registers_in_between_is_taken_into_account(store, monkeypatch):
    registry, rival = open_registry(store), open_registry(store)
    before_the_next_commit(monkeypatch, lambda: rival.register([(rival_of(host(1)), NOW_MS)]))
    refused = registry.register([(host(1), NOW_MS), (host(2), NOW_MS)])

    assert refused == {key(host(1)): Reason.ID_COLLISION}
    assert {(r["series_id"], r["check"]) for r in rows(store)} == {
        key(rival_of(host(1))),
        key(host(2)),
    }


def test_what_a_rival_registers_in_between_counts_against_the_limit(store, monkeypatch):
    registry, rival = open_registry(store), open_registry(store)
    limits = Limits(default=MetricLimits(series=10))
    before_the_next_commit(
        monkeypatch, lambda: rival.register([(host(n), NOW_MS) for n in range(9)], limits)
    )
    refused = registry.register([(host(100 + n), NOW_MS) for n in range(9)], limits)

    assert set(refused.values()) == {Reason.CARDINALITY_LIMIT}
    assert len(refused) == 8
    assert len(rows(store)) == registry.series_of.total() == 10


def test_a_registry_that_never_wins_says_so(store, monkeypatch):
    def refuse(*args, **options):
        raise Conflict("somebody was faster")

    monkeypatch.setattr(registry_module, "commit", refuse)

    with pytest.raises(TemporaryError, match="rival"):
        open_registry(store).register([(host(1), NOW_MS)])


def test_membership_is_of_id_and_check(store):
    registry = open_registry(store)
    registry.register([(host(1), NOW_MS)])

    known = status(registry.index, host(1), host(2), rival_of(host(1)))

    assert known == [KNOWN, UNKNOWN, CONTESTED]
    assert registry.knows_any([key(host(2)), key(host(1))])
    assert not registry.knows_any([key(host(2))])
    assert not registry.knows_any([])


def test_known_series_follow_the_log(store):
    known, registry = SeriesIdIndex(store), open_registry(store)
    registry.register([(host(n), NOW_MS) for n in range(5)])
    assert status(known, host(0)) == [UNKNOWN]

    known.advance(registry.index.version)

    assert status(known, *(host(n) for n in range(5))) == [KNOWN] * 5
    assert len(known) == 5


def test_the_transaction_of_the_registry_moves_with_every_commit(store):
    registry = open_registry(store)
    registry.register([(host(1), NOW_MS)])
    registry.register([(host(2), NOW_MS)])

    table = Table(store, "series")
    assert table.position(positions.registry()) == 1
    with pytest.raises(Conflict):
        commit(table, [], transactions={positions.registry(): Step(0, 1)})
