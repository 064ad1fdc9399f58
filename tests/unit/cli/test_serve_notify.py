"""The command line of `varve serve notify`: what unit files of Alertmanager have."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from varve.cli import serve_notify
from varve.model.errors import NeedsOperator
from varve.notify.cluster.cluster import ClusterOptions
from varve.notify.matchers import Mode


def options(*arguments: str):
    parser = argparse.ArgumentParser()
    serve_notify.add_options(parser)
    return serve_notify.options_of(parser.parse_args(arguments))


def test_without_options_it_is_alertmanager_on_loopback():
    found = options()

    assert found.config_file == Path("alertmanager.yml")
    assert found.listen == ("127.0.0.1:9093",)
    assert found.cluster is None
    assert found.options.retention_ms == 120 * 3_600_000


def test_what_a_chart_gives():
    found = options(
        "--config.file=/etc/am.yml",
        "--storage.path=/data",
        "--data.retention=5d12h",
        "--web.listen-address=:9093",
        "--web.external-url=http://am.example/x",
        "--cluster.listen-address=[::]:9094",
        "--cluster.peer=am-0.am:9094",
        "--cluster.peer=am-1.am:9094",
        "--cluster.reconnect-timeout=5m",
        "--cluster.gossip-interval=200ms",
        "--enable-feature=utf8-strict-mode",
        "--log.level=debug",
    )

    assert found.options.retention_ms == (5 * 24 + 12) * 3_600_000
    assert found.cluster == ClusterOptions(
        "[::]:9094", "", ("am-0.am:9094", "am-1.am:9094"), reconnect_timeout_s=300.0
    )
    assert found.options.mode is Mode.UTF8
    assert found.without_meaning == ("cluster.gossip-interval",)


def test_an_empty_address_for_peers_is_none():
    assert options("--cluster.listen-address=").cluster is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cluster.listen-address=", "--cluster.peer=a:1"], "needs a --cluster.listen-address"),
        (["--cluster.peer=a"], "HOST:PORT"),
        (["--enable-feature=nope"], "nope is unknown"),
        (["--enable-feature=classic-mode,utf8-strict-mode"], "excludes"),
    ],
)
def test_what_cannot_be_is_said(arguments, text):
    with pytest.raises(NeedsOperator, match=text):
        options(*arguments)


def test_nothing_seems_protected_that_is_not(tmp_path):
    path = tmp_path / "web.yml"
    path.write_text("{}")
    options(f"--web.config.file={path}")

    path.write_text("basic_auth_users: {me: x}")

    with pytest.raises(NeedsOperator, match="proxy"):
        options(f"--web.config.file={path}")


@pytest.mark.parametrize("text", ["5", "x", "1h1", "-1h"])
def test_a_duration_needs_its_unit(text):
    with pytest.raises(SystemExit):
        options(f"--data.retention={text}")
