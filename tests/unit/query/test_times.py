"""Times and durations as Prometheus' clients write them."""

from __future__ import annotations

import pytest

from varve.query.times import MAX_TIME_MS, parse_duration_ms, parse_time_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1795338000", 1_795_338_000_000),
        ("1795338000.1234", 1_795_338_000_123),
        ("-1.5", -1_500),
        ("1.5e3", 1_500_000),
        ("2026-11-22T09:00:00Z", 1_795_338_000_000),
        ("2026-11-22T10:00:00.5+01:00", 1_795_338_000_500),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("292277025-08-18T07:12:54.999999999Z", MAX_TIME_MS),
    ],
)
def test_a_time_is_seconds_or_rfc_3339(text, ms):
    assert parse_time_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", "now", "1h", "nan", "inf", "2026-11-22", "2026-13-22T09:00:00Z", "1e30", "१"]
)
def test_what_is_no_time_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="to a valid timestamp") as raised:
        parse_time_ms(text)

    assert f'"{text}"' in str(raised.value)


@pytest.mark.parametrize(
    ("text", "ms"), [("15", 15_000), ("0.25", 250), ("1h30m", 5_400_000), ("1d", 86_400_000)]
)
def test_a_duration_is_seconds_or_as_in_promql(text, ms):
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5 m", "m", "1e300", "-"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="to a valid duration"):
        parse_duration_ms(text)
