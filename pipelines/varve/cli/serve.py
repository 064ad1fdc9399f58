"""`varve serve`: one service in the foreground, as `varve up` or a cluster starts it."""

from __future__ import annotations

import argparse
import importlib
from functools import partial
from typing import TYPE_CHECKING

from varve.cli import serve_notify
from varve.model.errors import NeedsOperator
from varve.services.logs import configure_for

if TYPE_CHECKING:
    from varve.services.status import ComponentStatus
    from varve.settings import Settings

# Service, module with `run(settings) -> exit status`, one line. notify and scrape take options.
SERVICES = (
    ("streams", "varve.services.streams", "ingest, rollups and anomalies, in one Spark JVM"),
    ("query", "varve.services.query", "PromQL over HTTP, and the web page"),
    ("gateway", "varve.services.gateway", "takes what senders push: remote write"),
    ("scrape", "varve.services.scrape", "reads the targets of a prometheus.yml"),
    ("rules", "varve.services.rules", "evaluates rules as their data is complete"),
    ("maintenance", "varve.services.maintenance", "merges small files, deletes unneeded ones"),
    ("forecasts", "varve.services.forecasts", "forecasts a week of what capacity.toml selects"),
    ("collector", "varve.services.collector", "this machine's metrics to Kafka"),
    ("notify", "varve.services.notify", "tells receivers of alerts, in Alertmanager's place"),
    ("demo-writer", "varve.local.demo_writer", "a small sender of remote write"),
    ("demo-history", "varve.local.demo_history", "days of generated history to Kafka, once"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    listed = "\n".join(f"  {name:<14} {summary}" for name, _, summary in SERVICES)
    parser.description = f"""\
Runs one service until SIGTERM or Ctrl-C. `varve up` starts these by itself; use this to
run them on machines of their own, against your Kafka and your tables.

{listed}
"""
    parser.epilog = """\
example:
  VARVE_STORAGE__ROOT=s3://metrics/varve varve serve query
  varve serve scrape --config.file=prometheus.yml
  varve serve notify --config.file=alertmanager.yml --storage.path=data
"""
    parser.add_argument("service", choices=[name for name, _, _ in SERVICES], metavar="SERVICE")
    serve_notify.add_options(parser)


def runs_without_settings(args: argparse.Namespace) -> bool:
    """The notifier has options of its own: loading the settings would be a third of its start."""
    return args.service == "notify" and args.home is None and args.config is None


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """settings: None only if `runs_without_settings`."""
    module = next(module for name, module, _ in SERVICES if name == args.service)
    if args.service == "notify":
        options = serve_notify.options_of(args)
        return int(importlib.import_module(module).run(options, _status(args, settings)))
    assert settings is not None  # noqa: S101 - only notify runs without
    if args.service == "scrape":
        settings = _with_config_file(settings, serve_notify.config_file_alone(args))
    elif serve_notify.has_options(args):
        raise NeedsOperator(f"{args.service} takes none of the options of notify")
    configure_for(settings)
    if args.service == "query":
        from varve.settings import load

        again = partial(load, args.config, overrides={"home": args.home})
        return int(importlib.import_module(module).run(settings, lambda: again()[0]))
    return int(importlib.import_module(module).run(settings))


def _status(args: argparse.Namespace, settings: Settings | None) -> ComponentStatus | None:
    """Where the notifier says how it is, if a home is named."""
    if args.home is None or settings is None:
        return None
    from varve.services.status import ComponentStatus

    return ComponentStatus(settings.home, "notify")


def _with_config_file(settings: Settings, file: str) -> Settings:
    """Settings in which a prometheus.yml is the one that was named, if one was."""
    if not file:
        return settings
    scrape = settings.scrape.model_copy(update={"config_file": file})
    return settings.model_copy(update={"scrape": scrape})
