"""The whole tree of settings, and what follows from several sections together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr, field_validator
from pydantic.fields import FieldInfo

from varve.settings.anomalies import Anomalies
from varve.settings.collector import Collector
from varve.settings.demo import Demo
from varve.settings.forecasts import Forecasts
from varve.settings.gateway import Gateway
from varve.settings.holidays import Holidays
from varve.settings.ingest import Ingest
from varve.settings.kafka import Kafka
from varve.settings.logs import Logs
from varve.settings.maintenance import Maintenance
from varve.settings.notify import Notify
from varve.settings.quality import Quality
from varve.settings.query import Query
from varve.settings.retention import Retention
from varve.settings.rollup import Rollup
from varve.settings.rules import Rules
from varve.settings.scrape import Scrape
from varve.settings.section import Section
from varve.settings.spark import Spark
from varve.settings.storage import Storage
from varve.settings.supervision import Supervision
from varve.settings.telemetry import Telemetry
from varve.settings.usage import Usage

_SECRET_NAME = re.compile(r"password|passwd|secret|token|jaas|credential|key", re.IGNORECASE)
_QUOTED_PASSWORD = re.compile(r"""password\s*=\s*["']([^"']+)["']""")
_PASSWORD_OF_URL = re.compile(r"://[^/@:]*:([^/@]+)@")


class Setting(NamedTuple):
    """A setting and its dotted key."""

    key: str
    field: FieldInfo


class Settings(Section):
    home: Path = Path(".varve")
    """Folder of everything `varve up` keeps: tables, broker, logs."""
    kafka: Kafka = Kafka()
    storage: Storage = Storage()
    spark: Spark = Spark()
    ingest: Ingest = Ingest()
    rollup: Rollup = Rollup()
    retention: Retention = Retention()
    usage: Usage = Usage()
    maintenance: Maintenance = Maintenance()
    quality: Quality = Quality()
    anomalies: Anomalies = Anomalies()
    forecasts: Forecasts = Forecasts()
    holidays: Holidays = Holidays()
    query: Query = Query()
    gateway: Gateway = Gateway()
    scrape: Scrape = Scrape()
    rules: Rules = Rules()
    notify: Notify = Notify()
    collector: Collector = Collector()
    demo: Demo = Demo()
    supervision: Supervision = Supervision()
    telemetry: Telemetry = Telemetry()
    logs: Logs = Logs()

    @field_validator("home", mode="before")
    @classmethod
    def _home_is_named(cls, home: object) -> object:
        # An empty path would be the current folder, whatever is in it.
        if isinstance(home, str) and not home.strip():
            raise ValueError("is empty: name a folder")
        return home

    def at(self, key: str) -> Any:
        """The value of a dotted key ("kafka.port"), which must be one of a setting."""
        value: Any = self
        for part in key.split("."):
            value = getattr(value, part)
        return value

    def sample_queries(self) -> dict[str, str]:
        """Name and topic of each ingest query of samples: what rollups and queries wait for."""
        return {"bulk": self.kafka.topics.raw, "critical": self.kafka.topics.critical}

    def record_queries(self) -> dict[str, str]:
        """Name and topic of each ingest query of another table, which has the query's name."""
        topics = self.kafka.topics
        found = {"histograms": topics.histograms, "exemplars": topics.exemplars}
        return {name: topic for name, topic in found.items() if topic}

    def ingest_queries(self) -> dict[str, str]:
        """Name and topic of each ingest query."""
        return self.sample_queries() | self.record_queries()

    def storage_root(self) -> str:
        """Folder or URL of the tables; a folder is absolute."""
        return self.storage.root or str((self.home / "tables").absolute())

    def storage_options(self) -> dict[str, str]:
        """Options of delta-rs, in the clear."""
        return {name: value.get_secret_value() for name, value in self.storage.options.items()}

    def colder_roots(self) -> list[tuple[str, dict[str, str], float]]:
        """Roots that old files move to, the warmer first: folder or URL, options in the clear, and
        the age in days from which files move there.
        """
        storage, found = self.storage, []
        for root, options, days in (
            (storage.warm_root, storage.warm_options, storage.warm_after_days),
            (storage.cold_root, storage.cold_options, storage.cold_after_days),
        ):
            if root:
                place = root if "://" in root else str(Path(root).expanduser().absolute())
                found.append((place, {n: v.get_secret_value() for n, v in options.items()}, days))
        return found

    def secrets(self) -> tuple[str, ...]:
        """Values that no log may show: every setting that is a secret, and of options those whose
        names say so.

        The longest comes first, so that none hides a part of another.
        """
        options = self.kafka.client_options().items()
        found = {value for name, value in options if _SECRET_NAME.search(name)}
        found |= set(_hidden(self))
        # A password is also known by itself, apart from the line or the address that has it.
        found |= {word for text in found for word in _QUOTED_PASSWORD.findall(text)}
        found |= {word for text in found for word in _PASSWORD_OF_URL.findall(text)}
        # Shorter ones would take words out of every line, and are no secrets.
        return tuple(sorted((v for v in found if len(v) > 3), key=len, reverse=True))


def _hidden(section: Section) -> Iterator[str]:
    """The secrets of a section and those within it."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _hidden(value)
        elif isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, dict):
            for key, one in value.items():
                is_option = name.endswith("options")
                if isinstance(one, SecretStr) and (not is_option or _SECRET_NAME.search(key)):
                    yield one.get_secret_value()


def settings_there_are(tree: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every setting; a section comes before its sub-sections, as TOML wants them."""
    sections = {}
    for name, field in tree.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            sections[name] = nested
        else:
            yield Setting(prefix + name, field)
    for name, nested in sections.items():
        yield from settings_there_are(nested, f"{prefix}{name}.")
