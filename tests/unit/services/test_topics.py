from hypothesis import given
from hypothesis import strategies as st

from varve.services.topics import Bounds, retention

MIB = 2**20


@given(st.integers(10 * MIB, 10**12), st.sampled_from([0.7, 0.2, 0.04]), st.integers(1, 64))
def test_a_topic_stays_within_its_share_wherever_segments_allow_it(total, share, partitions):
    settings = retention(Bounds(7_200_000, total), share, partitions)

    most = int(settings["retention.bytes"]) + int(settings["segment.bytes"])
    assert most * partitions <= max(total * share, 2 * MIB * partitions)


@given(st.integers(1, 10**10))
def test_a_quiet_topic_still_rolls_its_segment_well_within_the_retention(retention_ms):
    settings = retention(Bounds(retention_ms, 10**9), 0.5, 4)

    assert int(settings["segment.ms"]) <= max(retention_ms / 4, 1_000)
