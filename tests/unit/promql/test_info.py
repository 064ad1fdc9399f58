"""info() describes series by the info series of the time that they are taken from."""

import pytest

from tests.unit.promql.asking import labels, vector
from varve.promql.engine import Engine
from varve.promql.testing import MemoryStorage

MINUTE = 60_000
HOUR = 60 * MINUTE
AT = 3 * HOUR


def minutes(first, last):
    return range(first * MINUTE, last * MINUTE, MINUTE)


@pytest.fixture(scope="module")
def engine():
    """`m` all the time; its info series says v1 in the first hour, v2 in the second, then v3."""
    info = {
        labels("target_info", job="j", instance="i", version=f"v{hour + 1}"): [
            *((t, 1.0, 0) for t in minutes(60 * hour, 60 * hour + 60))
        ]
        for hour in range(4)
    }
    described = {
        labels(name, job="j", instance="i"): [(t, 1.0, 0) for t in minutes(0, 240)]
        for name in ("m", "n")
    }
    return Engine(MemoryStorage.of(described | info))


def version(engine, query, at_ms=AT):
    """The version that the only series is described by, None if by none."""
    [found] = vector(engine.instant(query, at_ms))
    return dict(found).get("version")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("m", "v4"),
        ("m offset 1h", "v3"),
        ("m offset (1h + 0s)", "v3"),
        ("m offset -30m", "v4"),
        ("m @ 1800", "v1"),
        ("m @ 5400 offset 1h", "v1"),
        ("m @ start()", "v4"),
        ("rate(m[5m] offset 2h)", "v2"),
        ("sum by (job, instance) (m offset 1h)", "v3"),
        ("sum by (job, instance) (rate(m[5m] offset 1h))", "v3"),
        ("-m offset 1h", "v3"),
        ("topk(1, m @ 1800)", "v1"),
        ("max_over_time(m[10m:1m] offset 1h)", "v3"),
        ("max_over_time((m offset 1h)[10m:1m])", "v3"),
        ("max_over_time((m offset 1h)[10m:1m] offset 1h)", "v2"),
        ("max_over_time(rate(m[5m] offset 30m)[10m:1m] offset 30m)", "v3"),
        ("max_over_time(max_over_time((m offset 1h)[10m:1m] offset 1h)[10m:1m] offset 30m)", "v1"),
        ("max_over_time(m[10m:1m] @ 1800)", "v1"),
        ("max_over_time((m offset 1h)[10m:1m] @ 9000)", "v2"),
        ("max_over_time((m @ 1800)[10m:1m] offset 1h)", "v1"),
        ("max_over_time((m @ 1800)[10m:1m] @ 9000)", "v1"),
        ("max_over_time(sum_over_time(m[5m:1m] @ 5400)[10m:1m] offset 1h)", "v2"),
        ("m offset 1h + n offset 1h", "v3"),
        ("m @ 5400 + n @ 9000 offset 1h", "v2"),
        ("m offset 1h * 2", "v3"),
        ("scalar(n @ 1800) * m offset 1h", "v3"),
        ("m offset 1h * scalar(n)", "v3"),
        ("label_replace(m offset 1h, 'x', 'y', '', '')", "v3"),
        ("info(m offset 1h, {nope=''})", "v3"),
    ],
)
def test_info_series_are_those_of_the_time_the_argument_looks_at(engine, argument, expected):
    assert version(engine, f"info({argument})") == expected
    assert version(engine, f'info({argument}, {{version=~".+"}})') == expected


@pytest.mark.parametrize(
    "argument",
    [
        "m offset 1h + n offset 2h",
        "m @ 1800 + n @ 5400",
        "m offset 1h + n",
        "n + m offset 1h",
        "m offset 1h + on() group_left vector(1)",
        "max_over_time((m + n offset 1h)[10m:1m] offset 1h)",
    ],
)
def test_where_parts_look_at_different_times_those_of_the_step_count(engine, argument):
    assert version(engine, f"info({argument})") == "v4"


def test_a_pinned_argument_is_described_alike_at_every_step_and_a_mixed_one_by_each_step(engine):
    def versions(query):
        result = engine.range(query, HOUR + 30 * MINUTE, AT + 30 * MINUTE, HOUR)
        matrix, names = result.value, result.value.labels.labels()
        return {
            dict(names[row])["version"]: matrix.present[row].tolist()
            for row in result.order.tolist()
        }

    assert versions("info(m @ 1800)") == {"v1": [True] * 3}
    assert versions("info(m @ 1800 + n @ 5400)") == {
        "v2": [True, False, False],
        "v3": [False, True, False],
        "v4": [False, False, True],
    }
    assert versions("info(max_over_time(m[5m:1m] offset 1h))") == {
        "v1": [True, False, False],
        "v2": [False, True, False],
        "v3": [False, False, True],
    }
