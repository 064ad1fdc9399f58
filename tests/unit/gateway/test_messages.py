"""Messages are Arrow's own bytes, whole series in a partition, definitions in time."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.gateway.messages import MESSAGE_SAMPLES, SampleColumns, encode
from varve.ingest import arrow_codec
from varve.model.identity import define


def columns(rows, targets, seed):
    rng = np.random.default_rng(seed)
    found = SampleColumns.empty(rows + 3)
    found.rows = rows
    found.ids[:] = rng.integers(-(2**63), 2**63, rows + 3)
    found.checks[:] = rng.integers(-(2**31), 2**31, rows + 3)
    found.ts[:] = rng.integers(-(2**63), 2**63, rows + 3)
    found.values[:] = rng.integers(0, 2**63, rows + 3).view(np.float64)
    found.starts[:] = rng.integers(-1, 2, rows + 3)
    found.targets[:] = rng.integers(0, targets, rows + 3)
    return found


@settings(max_examples=60)
@given(st.integers(0, 3 * MESSAGE_SAMPLES), st.integers(1, 9), st.integers(0, 1000))
def test_a_message_is_byte_for_byte_what_arrow_writes(rows, targets, seed):
    sent = columns(rows, targets, seed)
    seen = dict.fromkeys(range(targets), 0)

    for message in encode(sent, {}):
        chosen = np.flatnonzero(sent.targets[:rows] == message.target)
        first = seen[message.target]
        chosen = chosen[first : first + message.samples]
        seen[message.target] += message.samples
        table = pa.Table.from_arrays(
            [pa.array(c[chosen]) for c in (sent.ids, sent.checks, sent.ts, sent.values)],
            schema=arrow_codec.wire_schema("samples"),
        )
        assert message.value == arrow_codec.write(table)
        assert message.samples <= MESSAGE_SAMPLES
        assert message.derived == (sent.starts[chosen] < 0).sum()
        assert message.key == int(sent.ids[chosen[0]]).to_bytes(8, "big", signed=True)

    assert sum(seen.values()) == rows


@pytest.mark.parametrize("samples", [0, 1, 5_000])
def test_definitions_go_with_or_before_the_samples_within_a_brokers_limit(samples):
    defined = [
        define("m", {"n": str(n), "text": "ä" * 400}, help_text="what it is") for n in range(5_000)
    ]
    sent = SampleColumns.empty(samples)
    sent.rows = samples
    for name in ("ids", "checks", "ts", "values", "starts", "targets"):
        getattr(sent, name)[:] = 1

    found = list(encode(sent, {1: defined}))

    blocks = [arrow_codec.read(message.value) for message in found]
    assert all(len(message.value) < 2**20 for message in found)
    assert [d for block in blocks for d in block.definitions] == defined
    assert sum(len(block.ts) for block in blocks) == samples
    assert not any(block.rejects for block in blocks)
