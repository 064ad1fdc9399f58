"""What becomes of scrapes: labels, limits, duplicates, staleness markers, reports."""

from __future__ import annotations

import pytest

from tests.unit.gateway.decoding import Decoding, bits, labels_of
from varve.gateway.exposition.formats import TEXT
from varve.gateway.exposition.known_lines import InvalidBody
from varve.gateway.negotiation import Version
from varve.gateway.scrape.assembly import Assembly, ScrapeRefused
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.targets import Target
from varve.model.staleness import STALE_BITS

STALE = "stale"
OWN = {"job": "j", "instance": "i:1"}
REPORTED = {
    "up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added",
    "scrape_samples_post_metric_relabeling",
}  # fmt: skip


class Scraping:
    """An assembly, and a decoder that reads what it says."""

    def __init__(self, labels=OWN, **job):
        config = ScrapeConfig.model_validate({"job_name": "j"} | job)
        target = Target("http://i:1/metrics", labels, {}, 15_000, 10_000)
        self.assembly = Assembly(config, target)
        self.decoding = Decoding()

    def take(self, body, ts=1000):
        found = self.assembly.read(body.encode(), TEXT)
        return self.read(self.assembly.take(found, ts, 0.25, len(body))[0])

    def read(self, request):
        """Values by metric and labels beyond the target's, and the reports apart."""
        self.decoding.decode(request.message().content.tobytes(), Version.V2)
        c = self.decoding.columns
        samples, self.reports = {}, {}
        for n in range(c.rows):
            labels = dict(labels_of(self.decoding.definitions[int(c.ids[n])]))
            value = STALE if bits(c.values[n]) == STALE_BITS else float(c.values[n])
            if labels["__name__"] in REPORTED:
                self.reports[labels["__name__"]] = value
                continue
            own = tuple((k, v) for k, v in labels.items() if OWN.get(k) != v)
            samples[own] = (int(c.ts[n]), value)
        return {(dict(k).pop("__name__"), *k[1:]): v for k, v in samples.items()}


def test_series_that_are_gone_end_and_the_report_counts():
    scraping = Scraping()

    assert scraping.take("a 1\nb 2\n", 1000) == {("a",): (1000, 1.0), ("b",): (1000, 2.0)}
    assert scraping.reports == {
        "up": 1.0, "scrape_duration_seconds": 0.25, "scrape_samples_scraped": 2.0,
        "scrape_samples_post_metric_relabeling": 2.0, "scrape_series_added": 2.0,
    }  # fmt: skip
    assert scraping.take("a 3\nc 4\n", 2000) == {
        ("a",): (2000, 3.0), ("c",): (2000, 4.0), ("b",): (2000, STALE),
    }  # fmt: skip
    assert scraping.reports["scrape_series_added"] == 1.0


def test_a_failed_scrape_ends_every_series_and_says_down():
    scraping = Scraping()
    scraping.take("a 1\n")

    failed, report = scraping.assembly.fail(2000, 0.5)

    assert scraping.read(failed) == {("a",): (2000, STALE)}
    assert scraping.reports["up"] == 0.0
    assert not report.is_up
    assert scraping.read(scraping.assembly.fail(3000, 0.5)[0]) == {}


def test_the_end_of_a_target_ends_its_reports_too():
    scraping = Scraping()
    scraping.take("a 1\n")

    assert scraping.read(scraping.assembly.end(2000)) == {("a",): (2000, STALE)}
    assert scraping.reports == dict.fromkeys(REPORTED, STALE)
    assert len(scraping.assembly.end(3000)) == 0


def test_series_with_times_of_their_own_do_not_end_unless_that_is_asked_for():
    for tracked in (False, True):
        scraping = Scraping(track_timestamps_staleness=tracked)
        scraping.take("a 1 500\n", 1000)

        assert scraping.take("", 2000) == ({("a",): (2000, STALE)} if tracked else {})


def test_times_are_those_of_the_scrape_where_they_are_not_honoured():
    assert Scraping(honor_timestamps=False).take("a 1 500\n") == {("a",): (1000, 1.0)}


def test_labels_that_clash_are_kept_under_another_name_or_honoured():
    body = 'a{job="x",exported_job="y"} 1\n'

    assert Scraping().take(body) == {
        ("a", ("exported_exported_job", "x"), ("exported_job", "y")): (1000, 1.0)
    }
    assert Scraping(honor_labels=True).take(body) == {
        ("a", ("exported_job", "y"), ("job", "x")): (1000, 1.0)
    }


def test_the_first_of_two_samples_of_a_series_counts():
    scraping = Scraping()

    assert scraping.take("a 1\na 2\n") == {("a",): (1000, 1.0)}
    assert scraping.reports["scrape_samples_post_metric_relabeling"] == 2.0


def test_metrics_are_relabelled_and_dropped():
    rules = [
        {"source_labels": ["__name__"], "regex": "drop_.*", "action": "drop"},
        {"regex": "secret", "action": "labeldrop"},
    ]
    scraping = Scraping(metric_relabel_configs=rules)

    assert scraping.take('drop_me 1\na{secret="x"} 2\n') == {("a",): (1000, 2.0)}
    assert scraping.reports["scrape_samples_scraped"] == 2.0
    assert scraping.reports["scrape_samples_post_metric_relabeling"] == 1.0


@pytest.mark.parametrize(
    ("job", "body"),
    [
        ({"sample_limit": 1}, "a 1\nb 1\n"),
        ({"label_limit": 3}, 'a{x="1"} 1\n'),
        ({"label_name_length_limit": 8}, 'a{abcdefghi="1"} 1\n'),
        ({"label_value_length_limit": 3}, 'a{x="1234"} 1\n'),
        ({"metric_relabel_configs": [{"regex": "__name__", "action": "labeldrop"}]}, "a 1\n"),
        ({"metric_name_validation_scheme": "legacy"}, '{"a.b"} 1\n'),
    ],
)
def test_what_is_over_a_limit_or_invalid_is_refused_as_a_whole(job, body):
    with pytest.raises(ScrapeRefused):
        Scraping(**job).take(body)


def test_series_are_told_by_their_lines_also_after_they_were_forgotten():
    scraping = Scraping()
    for n in range(6):
        body = "".join(f'a{{x="{n}.{m}"}} {m}\n' for m in range(300)) + "b 1\n"
        found = scraping.take(body, 1000 * n)
        assert found["b",] == (1000 * n, 1.0)
        for m in range(300):
            assert found["a", ("x", f"{n}.{m}")] == (1000 * n, float(m))
            if n:
                assert found["a", ("x", f"{n - 1}.{m}")] == (1000 * n, STALE)
        assert len(found) == 601 if n else 301
        assert scraping.reports["scrape_series_added"] == (300 if n else 301)
    assert scraping.assembly.remembered <= 1000


def test_what_is_remembered_is_bounded_though_no_scrape_goes_well():
    scraping = Scraping(sample_limit=1)
    for n in range(6):
        body = "".join(f'a{{x="{n}.{m}"}} {m}\n' for m in range(300))
        with pytest.raises(ScrapeRefused):
            scraping.take(body, 1000 * n)
        scraping.assembly.fail(1000 * n, 0.5)
        assert scraping.assembly.remembered <= 1000


def test_series_of_a_body_that_was_refused_are_described_by_the_next_and_not_new_then():
    scraping = Scraping()
    for _ in range(2):
        with pytest.raises(InvalidBody) as refused:
            scraping.take("# TYPE a counter\n# HELP a A.\na 1\nb{\n")
        counts = scraping.assembly.counts_before(refused.value.columns)
        scraping.read(scraping.assembly.fail(1000, 0.5, counts)[0])
        assert scraping.reports["scrape_samples_scraped"] == 1.0

    scraping.take("# TYPE a counter\n# HELP a A.\na 1\n", 2000)

    assert scraping.reports["scrape_series_added"] == 0.0
    said = {d.metric: (d.type, d.help) for d in scraping.decoding.definitions.values()}
    assert said["a"] == ("counter", "A.")
