"""The parts of a prometheus.yml that scraping goes by.

Source: Prometheus, "Configuration".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from varve.gateway.scrape.discovery_config import (
    ConsulSdConfig,
    DnsSdConfig,
    FileSdConfig,
    HttpSdConfig,
    KubernetesSdConfig,
    StaticConfig,
    require_supported,
)
from varve.gateway.scrape.relabel import RelabelConfig
from varve.notify.config.document import ConfigError, Document, read_document
from varve.notify.config.fields import (
    DurationMs,
    Fields,
    Flag,
    Integer,
    Number,
    Text,
    TextMap,
    Texts,
)
from varve.notify.config.http_client import HttpConfig

PROTOCOLS = (
    "PrometheusProto",
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
_DEFAULT_PROTOCOLS = (
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)([KMGTPE]?)i?B")
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{([^}]*)\})")


def _bytes(value: Any) -> Any:
    text = "" if value is None else str(value)
    if text in ("", "0"):
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no size; write one like 10MB")
    return int(float(found[1]) * 1024 ** "_KMGTPE".index(found[2] or "_"))


Size = Annotated[int, BeforeValidator(_bytes)]
Count = Annotated[Integer, Field(ge=0)]
Anything = Any
"""Of sections that others read: rules, alerting, remote write."""


class _Common(Fields):
    """Fields that a job takes from `global` where it has none of its own."""

    scrape_interval: DurationMs = 0
    scrape_timeout: DurationMs = 0
    scrape_protocols: Texts | None = None
    body_size_limit: Size = 0
    sample_limit: Count = 0
    target_limit: Count = 0
    label_limit: Count = 0
    label_name_length_limit: Count = 0
    label_value_length_limit: Count = 0
    keep_dropped_targets: Count = 0
    metric_name_validation_scheme: Text = ""
    metric_name_escaping_scheme: Text = ""
    scrape_native_histograms: Flag | None = None
    convert_classic_histograms_to_nhcb: Flag | None = None
    always_scrape_classic_histograms: Flag | None = None
    extra_scrape_metrics: Flag | None = None
    scrape_failure_log_file: Text = ""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.scrape_protocols is not None:
            if not self.scrape_protocols:
                raise ValueError("scrape_protocols is empty; leave it out for the default")
            for protocol in self.scrape_protocols:
                _require_protocol(protocol)
            if len(set(self.scrape_protocols)) < len(self.scrape_protocols):
                raise ValueError("scrape_protocols has a protocol twice")
        if self.metric_name_validation_scheme not in ("", "legacy", "utf8"):
            scheme = self.metric_name_validation_scheme
            raise ValueError(f"metric_name_validation_scheme is legacy or utf8, not {scheme!r}")
        if self.metric_name_escaping_scheme not in ("", *_ESCAPINGS):
            scheme = self.metric_name_escaping_scheme
            raise ValueError(
                f"metric_name_escaping_scheme is one of {', '.join(_ESCAPINGS)}, not {scheme!r}"
            )
        return self


def _require_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown scrape protocol {protocol!r}; {', '.join(PROTOCOLS)} are known")


class GlobalConfig(_Common):
    evaluation_interval: DurationMs = 0
    rule_query_offset: DurationMs = 0
    query_log_file: Text = ""
    external_labels: TextMap = Field(default_factory=dict)
    runtime: Anything = None

    @model_validator(mode="after")
    def _timeout_is_within(self) -> Self:
        interval = self.scrape_interval or _INTERVAL_MS
        if self.scrape_timeout > interval:
            raise ValueError("the global scrape_timeout is greater than the scrape_interval")
        return self


_INTERVAL_MS, _TIMEOUT_MS = 60_000, 10_000


class ScrapeConfig(HttpConfig, _Common):
    job_name: Text = ""
    honor_labels: Flag = False
    honor_timestamps: Flag = True
    track_timestamps_staleness: Flag = False
    params: dict[str, Texts] = Field(default_factory=dict)
    fallback_scrape_protocol: Text = ""
    metrics_path: Text = "/metrics"
    scheme: Text = "http"
    enable_compression: Flag = True
    native_histogram_bucket_limit: Count = 0
    native_histogram_min_bucket_factor: Number = 0.0
    relabel_configs: tuple[RelabelConfig, ...] = ()
    metric_relabel_configs: tuple[RelabelConfig, ...] = ()
    static_configs: tuple[StaticConfig, ...] = ()
    file_sd_configs: tuple[FileSdConfig, ...] = ()
    http_sd_configs: tuple[HttpSdConfig, ...] = ()
    dns_sd_configs: tuple[DnsSdConfig, ...] = ()
    consul_sd_configs: tuple[ConsulSdConfig, ...] = ()
    kubernetes_sd_configs: tuple[KubernetesSdConfig, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _has_fields(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("a scrape config is empty")
        return require_supported(value)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.job_name:
            raise ValueError("a scrape config has no job_name")
        if self.scheme not in ("http", "https"):
            raise ValueError(f"scheme is http or https, not {self.scheme!r}")
        if self.fallback_scrape_protocol:
            _require_protocol(self.fallback_scrape_protocol)
        return self

    @property
    def protocols(self) -> tuple[str, ...]:
        """Those that are asked for, best first."""
        if self.scrape_protocols is not None:
            return self.scrape_protocols
        native = ("PrometheusProto",) if self.scrape_native_histograms else ()
        return (*native, *_DEFAULT_PROTOCOLS)

    @property
    def is_legacy(self) -> bool:
        """Whether names are those of before UTF-8."""
        return self.metric_name_validation_scheme == "legacy"

    @property
    def escaping(self) -> str:
        """How targets are asked to write names that are not of the old kind."""
        if self.metric_name_escaping_scheme:
            return self.metric_name_escaping_scheme
        return "underscores" if self.is_legacy else "allow-utf-8"

    def discoveries(self) -> list[str]:
        """The kind of each discovery besides the static ones."""
        kinds = ("file", "http", "dns", "consul", "kubernetes")
        return [kind for kind in kinds for _ in getattr(self, f"{kind}_sd_configs")]


class _File(Fields):
    global_: GlobalConfig = Field(default_factory=GlobalConfig, alias="global")
    scrape_configs: tuple[ScrapeConfig, ...] = ()
    scrape_config_files: Texts = ()
    runtime: Anything = None
    rule_files: Anything = None
    alerting: Anything = None
    remote_write: Anything = None
    remote_read: Anything = None
    storage: Anything = None
    tracing: Anything = None
    otlp: Anything = None


class _ScrapeFile(Fields):
    scrape_configs: tuple[ScrapeConfig, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """What scraping goes by: jobs with everything that they take from `global`."""

    jobs: tuple[ScrapeConfig, ...]
    external_labels: Mapping[str, str]
    folder: Path
    """Which relative paths begin at."""


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Reads a prometheus.yml. Raises ConfigError with a line for each thing that is wrong."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: {err}") from None
    return parse_config(text, path.name, path.parent, environment)


def parse_config(
    text: str, name: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> Configuration:
    """Reads the text of a prometheus.yml. Raises ConfigError."""
    document = read_document(text, name)
    file = _validated(_File, document)
    common = file.global_
    jobs: dict[str, ScrapeConfig] = {}
    for job in (*file.scrape_configs, *_of_files(file, folder)):
        if job.job_name in jobs:
            raise ConfigError(f"{name}: the job_name {job.job_name!r} comes twice")
        try:
            jobs[job.job_name] = _filled_in(job, common)
        except ValueError as err:
            raise ConfigError(f"{name}: job {job.job_name!r}: {err}") from None
    labels = {k: _expanded(v, environment) for k, v in common.external_labels.items()}
    for label in labels:
        if not label or label == "__name__":
            raise ConfigError(f"{name}: {label!r} is no external label")
    return Configuration(tuple(jobs.values()), labels, folder)


def _of_files(file: _File, folder: Path) -> list[ScrapeConfig]:
    found: list[ScrapeConfig] = []
    for pattern in file.scrape_config_files:
        base, _, _ = pattern.partition("*")
        paths = sorted(folder.glob(pattern)) if "*" in pattern else [folder / base]
        if Path(pattern).is_absolute():
            root = Path(pattern).anchor
            paths = sorted(Path(root).glob(str(Path(pattern).relative_to(root))))
        for path in paths:
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError) as err:
                raise ConfigError(f"{path}: {err}") from None
            found += _validated(_ScrapeFile, read_document(text, str(path))).scrape_configs
    return found


def _validated(model: Any, document: Document) -> Any:
    if document.value is not None and not isinstance(document.value, dict):
        raise document.error((), "the file is no mapping")
    try:
        return model.model_validate(document.value or {})
    except ValidationError as err:
        raise document.errors_of(err) from None


def _filled_in(job: ScrapeConfig, common: GlobalConfig) -> ScrapeConfig:
    """The job with what it takes from `global`. Raises ValueError."""
    interval = job.scrape_interval or common.scrape_interval or _INTERVAL_MS
    timeout = job.scrape_timeout or min(interval, common.scrape_timeout or _TIMEOUT_MS)
    if timeout > interval:
        raise ValueError("scrape_timeout is greater than scrape_interval")
    given = {name: getattr(job, name) for name in _Common.model_fields}
    filled = {name: value or getattr(common, name) for name, value in given.items()}
    filled |= {"scrape_interval": interval, "scrape_timeout": timeout}
    for name, value in given.items():
        if value is False:
            filled[name] = False
    found = job.model_copy(update=filled)
    if found.is_legacy:
        if found.metric_name_escaping_scheme == "allow-utf-8":
            raise ValueError(
                "the legacy metric_name_validation_scheme does not go with allow-utf-8"
            )
        for rule in (*found.relabel_configs, *found.metric_relabel_configs):
            rule.require_legacy_names()
    return found


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """$NAME and ${NAME} stand for variables of the environment, $$ for a dollar sign."""
    return _VARIABLE.sub(
        lambda found: "$" if found[1] else environment.get(found[2] or found[3] or "", ""), text
    )
