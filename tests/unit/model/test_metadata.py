import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.metadata import NOTHING_KNOWN, Metadata, metadata_of

said = st.builds(
    Metadata,
    st.sampled_from(["unknown", "counter", "gauge"]),
    st.sampled_from(["", "seconds", "bytes"]),
    st.sampled_from(["", "Requests.", "Others."]),
)


@given(said, said, said)
def test_what_was_said_first_stays_and_only_what_is_unknown_is_filled(first, second, third):
    filled = first.filled_by(second)

    assert filled.filled_by(third) == first.filled_by(second.filled_by(third))
    assert filled.filled_by(second) == filled == filled.filled_by(NOTHING_KNOWN)
    assert NOTHING_KNOWN.filled_by(first) == first
    for own, other, found in zip(
        *((one.type, one.unit, one.help) for one in (first, second, filled)), strict=True
    ):
        assert found == (other if own in ("", "unknown") else own)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("latency_bucket", "histogram"),
        ("latency_sum", "histogram"),
        ("latency", "histogram"),
        ("jobs_total", "counter"),
        ("jobs_count", "gauge"),  # of its own name
        ("latency_max", "unknown"),
        ("_sum", "unknown"),
    ],
)
def test_a_metric_has_the_metadata_of_its_name_or_of_its_family(metric, kind):
    known = {
        "latency": Metadata("histogram"),
        "jobs": Metadata("counter"),
        "jobs_count": Metadata("gauge"),
    }

    assert metadata_of(metric, known).type == kind
