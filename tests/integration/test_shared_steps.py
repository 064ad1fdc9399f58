"""Steps that are kept in a real Redis: shared by services, checked when read, done without."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import QUERY, WrittenTables
from varve.model.identity import define
from varve.promql import result_json
from varve.promql.labels.label_table import LabelTable
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import UNBOUNDED, MemoryBudget
from varve.query.shared_steps import SharedSteps, name_of, packed, unpacked
from varve.query.step_cache import KeptSteps, StepCache
from varve.query.tables import Tables

T = 1_795_338_000_000
SERIES = [define("x_total", {"i": f"{i}"}) for i in range(3)]
QUERY_TEXT = "sum by (i) (rate(x_total[2m]))"

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="no redis-server on PATH (Debian: redis-server)"
)


@contextmanager
def redis_server(folder):
    """Its address, a socket in the folder."""
    socket = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
    process = subprocess.Popen(
        [*command, "--dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    url = f"unix://{socket}"
    try:
        deadline = time.monotonic() + 60
        with redis.Redis.from_url(url) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "redis-server does not answer"
                    time.sleep(0.05)  # between looks, not instead of one
        yield url
    finally:
        process.terminate()
        process.wait(30)


def wait_until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between looks, not instead of one


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define(SERIES)
    tables.put(
        (one.series_id, T + 15_000 * k, 7.0 * k * (i + 1))
        for i, one in enumerate(SERIES)
        for k in range(80)
    )
    return tables


class Asking:
    """A service: its view, the steps it keeps, and its clock for pauses."""

    def __init__(self, tables, url):
        self.followed = Tables(tables.store, [QUERY], 32 << 20)
        self.now_s = 0.0
        own = StepCache(1 << 20, MemoryBudget(UNBOUNDED))
        self.steps = SharedSteps(own, url, lambda: self.now_s)

    def ask(self, end=40):
        """The answer as JSON, and how many of its steps were computed before."""
        times = Range(T + 300_000, T + 15_000 * end, 15_000)
        answer = evaluate(self.followed.view, QUERY_TEXT, times, Options(steps=self.steps))
        plain = evaluate(self.followed.view, QUERY_TEXT, times, Options())
        assert result_json.to_json(answer.result) == result_json.to_json(plain.result)
        return answer.provenance.cached


@needs_redis
def test_a_service_uses_what_another_has_computed(tables, tmp_path):
    with redis_server(tmp_path) as url:
        first, second = Asking(tables, url), Asking(tables, url)

        assert first.ask() == 0
        assert second.ask(end=44) == 21
        assert first.ask(end=44) == 21  # of its own, which come before those of others


@needs_redis
def test_closing_ends_the_connections_and_leaves_what_others_use(tables, tmp_path):
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        service = Asking(tables, url)
        service.ask()
        assert len(client.client_list()) == 2  # the service's and this one

        service.steps.close()

        wait_until(lambda: len(client.client_list()) == 1)
        assert Asking(tables, url).ask() == 21


@needs_redis
def test_tables_made_anew_have_nothing_of_the_old_ones(tables, tmp_path):
    other = WrittenTables(str(tmp_path / "tables"))
    other.define(SERIES)
    other.put((SERIES[0].series_id, T + 15_000 * k, 1.0 * k) for k in range(80))
    with redis_server(tmp_path) as url:
        Asking(tables, url).ask()

        assert Asking(other, url).ask() == 0


@needs_redis
def test_without_redis_answers_are_the_same_and_it_is_asked_again_after_a_while(tables, tmp_path):
    with redis_server(tmp_path) as url:
        Asking(tables, url).ask()
        service = Asking(tables, url)
    assert service.ask() == 0  # down: nothing of the other's
    assert service.ask(end=44) == 21  # of its own

    with redis_server(tmp_path) as url:
        Asking(tables, url).ask(end=60)
        fresh = Asking(tables, url)
        fresh.now_s, service.now_s = 4.9, 4.9
        assert service.steps.get(("", "never asked", 1, 0, 0, None)) is None
        assert fresh.ask(end=60) == 41
        service.now_s = 5.1
        assert service.ask(end=64) == 25
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 1


@needs_redis
@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_an_entry_that_cannot_be_read_is_none(tables, tmp_path, damage):
    with redis_server(tmp_path) as url:
        Asking(tables, url).ask()
        with redis.Redis.from_url(url) as client:
            (name,) = client.keys()
            body = bytearray(client.get(name))
            body[len(body) // 2] ^= 0xFF
            client.set(name, bytes(body) if damage is None else damage)

        assert Asking(tables, url).ask() == 0
        assert Asking(tables, url).ask() == 21  # the first has written it anew


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="Redis URL"):
        SharedSteps(StepCache(1, MemoryBudget(UNBOUNDED)), "http://localhost")


texts = st.text(min_size=1, max_size=4)


@given(
    st.lists(
        st.dictionaries(texts, texts, max_size=3),
        max_size=5,
        unique_by=lambda d: (*sorted(d.items()),),
    ),
    st.integers(0, 20),
    st.integers(0, 2**40),
    st.randoms(use_true_random=False),
)
def test_steps_come_back_as_they_were(labels, count, version, r):
    rows = {tuple(sorted(one.items())): i for i, one in enumerate(labels)}
    shape = (len(labels), count)
    special = [0.0, -0.0, float("nan"), float("inf"), 1e-300, r.random()]
    values = np.array([r.choice(special) for _ in range(shape[0] * count)]).reshape(shape)
    present = np.array([r.random() < 0.5 for _ in range(shape[0] * count)], bool).reshape(shape)
    times = np.arange(count, dtype=np.int64) * 15_000 + T
    marks = np.array([r.getrandbits(64) for _ in range(2 * count)], np.uint64).reshape(2, count)
    versions = {"samples": version, "rollup_1m": 7}
    kept = KeptSteps(versions, times, marks, LabelTable.of(labels), rows, values, present)

    found = unpacked(packed(kept))

    assert found.versions == versions
    assert np.array_equal(found.marks, marks)
    assert found.rows == rows
    assert found.labels.labels() == kept.labels.labels()
    assert np.array_equal(found.times, times)
    assert found.values.tobytes() == values.tobytes()
    assert np.array_equal(found.present, present)


@given(st.binary(max_size=200))
def test_any_bytes_are_steps_or_none(body):
    assert unpacked(body) is None


def test_names_do_not_tell_what_is_asked_for():
    key = ("t", "secret_metric", 15_000, 0, 300_000, None)

    assert b"secret" not in name_of(key)
    assert name_of(key) != name_of(("u", *key[1:]))
