"""The options of `varve serve notify`: Alertmanager's names, so that unit files carry over."""

from __future__ import annotations

import argparse
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from varve.model.errors import NeedsOperator

if TYPE_CHECKING:
    from varve.notify.cluster.cluster import ClusterOptions
    from varve.notify.matchers import Mode
    from varve.services.notify import NotifyOptions

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DEST = "notify_"
# Of Alertmanager's gossip and server: links that stay open need none of them.
_WITHOUT_MEANING = (
    *("cluster.gossip-interval", "cluster.pushpull-interval", "cluster.tcp-timeout"),
    *("cluster.probe-timeout", "cluster.probe-interval", "cluster.reconnect-interval"),
    *("cluster.peers-resolve-timeout", "web.get-concurrency", "web.timeout"),
    *("dispatch.maintenance-interval", "auto-gomemlimit.ratio"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options; one that is not given is not among the arguments."""
    group = parser.add_argument_group("options of notify, by Alertmanager's names")

    def add(name: str, text: str, metavar: str = "", **more: object) -> None:
        dest = _DEST + re.sub(r"\W", "_", name)
        group.add_argument(
            f"--{name}",
            dest=dest,
            help=text,
            metavar=metavar or None,
            default=argparse.SUPPRESS,
            **more,  # type: ignore[arg-type]
        )

    def add_duration(name: str, text: str) -> None:
        add(name, text, "DURATION", type=_duration_ms)

    add("config.file", "alertmanager.yml; of scrape: prometheus.yml", "FILE", type=Path)
    add("oncall.file", "oncall.yml: escalation, schedules, watchdogs; ours", "FILE", type=Path)
    add("storage.path", "folder of the state (data/)", "DIR", type=Path)
    add_duration("data.retention", "how long ended silences and the log are kept (120h)")
    add_duration("data.maintenance-interval", "how often what is too old is dropped (15m)")
    add("silences.max-silences", "how many silences there may be", "N", type=int)
    add("silences.max-per-silence-bytes", "how long a silence may be", "N", type=int)
    add_duration("alerts.gc-interval", "how often alerts that have ended are dropped (30m)")
    add("alerts.per-alertname-limit", "how many alerts of a name are taken", "N", type=int)
    add("web.listen-address", "HOST:PORT, several times", "ADDRESS", action="append")
    add("web.external-url", "the address that links in messages have", "URL", type=_url)
    add("web.route-prefix", "what paths begin with", "PATH")
    add("cluster.listen-address", "HOST:PORT for peers; empty is none (0.0.0.0:9094)", "ADDRESS")
    add("cluster.advertise-address", "HOST:PORT at which peers reach this one", "ADDRESS")
    add("cluster.peer", "HOST:PORT of another notifier, several times", "ADDRESS", action="append")
    add_duration("cluster.peer-timeout", "how long each waits for the one before it (15s)")
    add_duration("cluster.settle-timeout", "how long a start waits for peers at most (1m)")
    add_duration("cluster.reconnect-timeout", "when a lost peer is given up (6h)")
    add("cluster.label", "only peers with the same label are talked to", "TEXT")
    add(
        "receivers.network",
        "only network that HTTP receivers may be in, such as 10.0.0.0/8, several times; ours",
        "CIDR",
        action="append",
        type=_network,
    )
    add_duration("dispatch.start-delay", "how long after a start nothing is told (0s)")
    add("enable-feature", "classic-mode or utf8-strict-mode, by comma", "FEATURES")
    add("web.config.file", "TLS and passwords of the API: none yet, so it must be empty", "FILE")
    for name in _WITHOUT_MEANING:
        add(name, argparse.SUPPRESS, "VALUE")
    add("log.level", "debug, info, warn or error", choices=["debug", "info", "warn", "error"])
    add("log.format", "logfmt or json", choices=["logfmt", "json"])


def has_options(args: argparse.Namespace) -> bool:
    return any(name.startswith(_DEST) for name in vars(args))


def config_file_alone(args: argparse.Namespace) -> str:
    """The value of --config.file, "" if it is not there. Raises NeedsOperator if another option of
    notify is.
    """
    given = {name for name in vars(args) if name.startswith(_DEST)}
    if given - {f"{_DEST}config_file"}:
        raise NeedsOperator(f"{args.service} takes --config.file and no other option of notify")
    return str(getattr(args, f"{_DEST}config_file", ""))


def options_of(args: argparse.Namespace) -> NotifyOptions:
    """What was asked for. Raises NeedsOperator if a feature is unknown."""
    from varve.notify.silences import Limits
    from varve.notify.state import Options
    from varve.services.notify import NotifyOptions

    given = {name.removeprefix(_DEST): value for name, value in vars(args).items()}
    default = Options()
    _require_empty(given.get("web_config_file", ""))
    return NotifyOptions(
        config_file=given.get("config_file", Path("alertmanager.yml")),
        storage=given.get("storage_path", Path("data")),
        listen=tuple(given.get("web_listen_address", ("127.0.0.1:9093",))),
        on_call_file=given.get("oncall_file"),
        external_url=given.get("web_external_url", ""),
        route_prefix=given.get("web_route_prefix", ""),
        options=Options(
            retention_ms=given.get("data_retention", default.retention_ms),
            maintenance_ms=given.get("data_maintenance_interval", default.maintenance_ms),
            alerts_gc_ms=given.get("alerts_gc_interval", default.alerts_gc_ms),
            start_delay_ms=given.get("dispatch_start_delay", 0),
            mode=_mode(given.get("enable_feature", "")),
            silence_limits=Limits(
                given.get("silences_max_silences", 0),
                given.get("silences_max_per_silence_bytes", 0),
            ),
            per_alertname_limit=given.get("alerts_per_alertname_limit", 0),
        ),
        cluster=_cluster(given),
        networks=tuple(given.get("receivers_network", ())),
        without_meaning=tuple(
            name for name in _WITHOUT_MEANING if re.sub(r"\W", "_", name) in given
        ),
        log_level=given.get("log_level", "info"),
        log_format=given.get("log_format", "logfmt"),
    )


def _cluster(given: dict[str, Any]) -> ClusterOptions | None:
    """As it was asked for; None, unless there is a peer or an address for peers."""
    from varve.notify.cluster.cluster import ClusterOptions, split

    peers = [peer for peer in given.get("cluster_peer", ()) if peer]
    listen = given.get("cluster_listen_address", "0.0.0.0:9094" if peers else "")
    if not listen:
        if peers:
            raise NeedsOperator("--cluster.peer needs a --cluster.listen-address")
        return None
    advertise = given.get("cluster_advertise_address", "")
    try:
        for address in (listen, *peers, *filter(None, [advertise])):
            split(address)
    except ValueError as err:
        raise NeedsOperator(f"--cluster: {err}") from None
    default = ClusterOptions(listen)
    return ClusterOptions(
        listen,
        advertise,
        tuple(peers),
        given.get("cluster_label", ""),
        given.get("cluster_peer_timeout", default.peer_timeout_s * 1000) / 1000,
        given.get("cluster_settle_timeout", default.settle_timeout_s * 1000) / 1000,
        given.get("cluster_reconnect_timeout", default.reconnect_timeout_s * 1000) / 1000,
    )


def _require_empty(web_config: str) -> None:
    """Raises NeedsOperator if the file asks for anything: what is not protected may not seem so."""
    if not web_config:
        return
    import yaml

    try:
        asked = yaml.safe_load(Path(web_config).read_text())
    except (OSError, yaml.YAMLError) as err:
        raise NeedsOperator(f"--web.config.file: {err}") from err
    if asked:
        raise NeedsOperator(
            f"--web.config.file: TLS and passwords of the API are not there yet ({web_config}):"
            " put a proxy that has them before it"
        )


def _mode(features: str) -> Mode:
    from varve.notify.matchers import Mode

    named = {feature.strip() for feature in features.split(",") if feature.strip()}
    modes = named & {Mode.CLASSIC.value, Mode.UTF8.value}
    if len(modes) > 1:
        raise NeedsOperator("--enable-feature: classic-mode excludes utf8-strict-mode")
    if unknown := named - modes:
        raise NeedsOperator(f"--enable-feature: {', '.join(sorted(unknown))} is unknown")
    return Mode(modes.pop()) if modes else Mode.FALLBACK


def _duration_ms(text: str) -> int:
    """Such as 120h, 1h30m or 1.5s."""
    parts = _PART.findall(text)
    if text == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 120h or 1h30m")
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as err:
        why = f"{text!r} is no network such as 10.0.0.0/8: {err}"
        raise argparse.ArgumentTypeError(why) from None


def _url(text: str) -> str:
    if text and (urlsplit(text).scheme not in {"http", "https"} or not urlsplit(text).netloc):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of http or https")
    return text
