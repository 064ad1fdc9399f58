"""Every setting, in one typed tree. Only services, the command line and jobs read it.

Order, the later wins: the defaults here, a TOML file, VARVE_SECTION__KEY in the environment,
options of the command line. `varve config` prints what is in force and where it came from.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from varve.model.errors import NeedsOperator
from varve.model.resources import conf_dir

ENV_PREFIX = "VARVE_"
_SECRET = re.compile(r"password|passwd|secret|token|jaas|credential|key", re.IGNORECASE)
_QUOTED = re.compile(r"""password\s*=\s*["']([^"']+)["']""")
# Read before the tree exists: where the file is.
CONFIG_ENV = "VARVE_CONFIG"


def _resolve(value: object) -> object:
    """`env:NAME` and `file:PATH` stand for a secret kept elsewhere."""
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set")
        return os.environ[name]
    if value.startswith("file:"):
        path = Path(value.removeprefix("file:")).expanduser()
        try:
            return path.read_text().strip()
        except OSError as err:
            raise ValueError(f"cannot read the secret in {path}: {err.strerror}") from err
    return value


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]
"""Never shown. Written as it is, or as env:NAME or file:PATH."""


def _quoted(text: str) -> str:
    """As a login configuration of Java has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Topics(Section):
    raw: str = "raw-metrics"
    """Samples of the bulk query."""
    critical: str = "raw-metrics-critical"
    """Samples that a storm on the bulk topic must not delay."""
    series: str = "metric-series"
    """Definitions of series, for producers that send Arrow without them."""
    anomalies: str = "metric-anomalies"
    """Where the anomaly job reports."""
    alerts: str = "alerts"
    """Where rules report changes of an alert's state."""


class Kafka(Section):
    bootstrap_servers: str = ""
    """host:port, comma separated. Empty: `varve up` starts its own broker on loopback."""
    port: int = Field(9092, ge=1, le=65535)
    """Port of the broker that `varve up` starts. 9092 as everywhere."""
    controller_port: int = Field(9093, ge=1, le=65535)
    """Controller port of that broker. 9093, next to it."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions of a topic that Varve creates. 4: two cores and room to double."""
    retention_s: int = Field(7_200, gt=0)
    """Seconds the broker that `varve up` starts keeps a message. 2 h: an outage of a demo."""
    retention_bytes: int = Field(1_000_000_000, gt=0)
    """Bytes it keeps, all topics together. 1 GB: a laptop's disk."""
    heap_mb: int = Field(512, ge=128)
    """Its Java heap in MiB. 512: room for one machine's load, the rest is disk cache."""
    security_protocol: str = Field("", pattern="^(|PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")
    """How the brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. Empty:
    PLAINTEXT."""
    sasl_mechanism: str = Field("", pattern="^(|PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")
    """How Varve proves who it is, with SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    username: str = ""
    """Who it is."""
    password: Secret = SecretStr("")
    """Its password: as it is, or env:NAME, or file:PATH."""
    ca_file: str = ""
    """PEM file of the certificates that sign those of the brokers. Empty: those the system trusts
    and Java brings."""
    on_truncation: str = Field("refuse", pattern="^(refuse|reread)$")
    """refuse: when a partition's log was cut below what was stored of it (a power cut under a
    broker that does not sync, an unclean election) and offsets were given again, stop and say so.
    reread: read it again from there on; copies merge."""
    topics: Topics = Topics()
    options: dict[str, Secret] = {}
    """Further options of Kafka clients by Kafka's names (ssl.keystore.location, ...); in a variable
    of the environment with underscores for dots."""

    @field_validator("options", mode="before")
    @classmethod
    def _dotted(cls, options: object) -> object:
        if not isinstance(options, dict):
            return options
        return {str(name).replace("_", "."): value for name, value in options.items()}

    def servers(self) -> str:
        """Where Kafka is: what is set, else the broker that `varve up` starts."""
        return self.bootstrap_servers or f"127.0.0.1:{self.port}"

    @model_validator(mode="after")
    def _login_is_whole(self) -> Kafka:
        twice = sorted(self._login().keys() & self.options.keys())
        if twice:
            raise ValueError(f"options has {', '.join(twice)}, which another setting says already")
        protocol = self.security_protocol or self.client_options().get("security.protocol", "")
        login = {"sasl_mechanism": self.sasl_mechanism, "username": self.username}
        login["password"] = self.password.get_secret_value()
        given = [name for name, value in login.items() if value]
        if given and not protocol.startswith("SASL_"):
            raise ValueError(
                f"{given[0]} is of no use without security_protocol SASL_SSL or SASL_PLAINTEXT"
            )
        if self.security_protocol.startswith("SASL_") and not any(
            name.startswith("sasl.") for name in self.options
        ):
            for name, value in login.items():
                if not value:
                    raise ValueError(f"{name} is missing: security_protocol is {protocol}")
        if self.ca_file and not protocol.endswith("SSL"):
            raise ValueError("ca_file is of no use without security_protocol SSL or SASL_SSL")
        return self

    def client_options(self) -> dict[str, str]:
        """Options of Kafka clients by Kafka's names, in the clear: for a client's constructor and
        nothing else.
        """
        return self._login() | {k: v.get_secret_value() for k, v in self.options.items()}

    def _login(self) -> dict[str, str]:
        """What the settings of names of their own are in Kafka's."""
        found = {"security.protocol": self.security_protocol, "sasl.mechanism": self.sasl_mechanism}
        if self.username:
            module = "scram.Scram" if self.sasl_mechanism.startswith("SCRAM") else "plain.Plain"
            user, password = map(_quoted, (self.username, self.password.get_secret_value()))
            found["sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.{module}LoginModule required"
                f" username={user} password={password};"
            )
        if self.ca_file:
            path = str(Path(self.ca_file).expanduser().absolute())
            found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": path}
        return {name: value for name, value in found.items() if value}


class Storage(Section):
    root: str = ""
    """Folder or s3://bucket/prefix of the tables. Empty: tables/ under home."""
    options: dict[str, Secret] = {}
    """Storage options of delta-rs: AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ..."""


class Spark(Section):
    master: str = "local[2]"
    """Spark master of `varve up`. Jobs started by spark-submit take theirs from it."""
    driver_memory_mb: int = Field(1_024, ge=512)
    """Java heap of the Spark process in MiB. Rows never enter it; 1 GiB leaves room for Python."""


class Ingest(Section):
    trigger_s: float = Field(2.0, ge=0)
    """Seconds between batches. 2: under 5 s from sample to answer, about 43 k commits a day."""
    max_samples_per_batch: int = Field(10_000_000, gt=0)
    """Samples one batch takes, about: messages are read by the number, so it follows what those
    before held. 10 M: a task of four holds a core for some two seconds, which a task of another
    query may have to wait for."""
    max_bytes_per_batch: int = Field(256 * 2**20, gt=0)
    """Bytes of messages one batch takes, about, once expanded. 256 MiB: 10 M samples as our clients
    send them."""
    max_messages_per_batch: int = Field(500_000, gt=0)
    """Kafka messages one batch takes at most. 500,000: of one sample each a batch of them takes
    some seconds."""
    max_message_bytes: int = Field(8 * 2**20, gt=0)
    """Bytes of one message; longer ones are refused. 8 MiB: eight times what Kafka takes
    unasked."""
    max_future_s: int = Field(600, ge=0)
    """Seconds a sample's timestamp may be ahead of the broker's clock. 10 min: a wrong clock is
    seen as one, a slightly fast one is not."""
    late_after_s: int = Field(7_200, gt=0)
    """Seconds after which a sample is old: old ones go to files of their own, so that recent files
    stay narrow. 2 h: longer than most outages of a producer."""
    complete_every_s: float = Field(2.0, gt=0)
    """Seconds between notes of how far input is complete. 2, as often as batches are stored."""
    reject_bytes: int = Field(8 * 2**20, ge=0)
    """Bytes of refused records that a batch keeps of one partition, and as many of those over an
    eighth of it; the rest is a number and the offsets to read again from Kafka. 8 MiB: as long as
    the longest message, and no storm of writes."""
    active_hours: float = Field(24, ge=1)
    """Hours, before the end of the last closed one, in which a series was seen if it counts against
    the limits. 24: pods of yesterday make room, a nightly job keeps its place."""
    scratch: str = ""
    """Folder on every machine for its index of known series, 12 bytes each, which all processes
    there share. Empty: _known beside tables on local disk, else varve-<user> in the temporary
    folder."""
    on_expired_offsets: str = Field("stop", pattern="^(stop|count)$")
    """stop: when Kafka has dropped offsets not yet stored, stop and say so. count: go on, and note
    the gap in the commit."""


class Rollup(Section):
    trigger_s: float = Field(5.0, gt=0)
    """Seconds between looks at the table below. 5: a minute is closed well before the next ends."""
    grace_s: float = Field(10.0, ge=0)
    """Seconds a window stays open after everything produced before its end is stored. 10: samples
    of clients that batch arrive before their window closes, later ones are repairs."""
    repair_every_s: float = Field(60.0, ge=0)
    """Seconds for which late samples are gathered before their windows are repaired. 60: a
    straggler that comes in pieces costs one repair."""
    repair_keys: int = Field(100_000, gt=0)
    """Windows that, once touched, are repaired without waiting for repair_every_s. 100,000: a
    backfill need not wait."""


class Retention(Section):
    samples_days: float = Field(15, ge=0.01)
    """Days raw samples are kept. Samples older than four fifths of it are refused."""
    rollup_1m_days: float = Field(30, gt=0)
    """Days 1-minute rollups are kept. Longer than samples, so that they can take their place."""
    rollup_5m_days: float = Field(90, gt=0)
    """Days 5-minute rollups are kept. A quarter of a year on one chart."""
    rollup_1h_days: float = Field(395, gt=0)
    """Days hourly rollups are kept. 13 months: this month against the same one last year."""
    rollup_1d_days: float = Field(395, gt=0)
    """Days daily rollups are kept. 13 months, as the hourly ones."""

    quarantine_days: float = Field(30, gt=0)
    """Days refused records are kept, whether or not they wait for a replay. 30: time to notice, to
    mend the cause and to replay."""

    @model_validator(mode="after")
    def _each_tier_outlives_the_one_below(self) -> Retention:
        chain = ("samples", "rollup_1m", "rollup_5m", "rollup_1h")
        for below, above in itertools.pairwise(chain):
            if getattr(self, f"{above}_days") < getattr(self, f"{below}_days") + 1:
                raise ValueError(f"{above}_days must exceed {below}_days by a day at least")
        if self.rollup_1d_days < self.rollup_1h_days:
            raise ValueError("rollup_1d_days must be at least rollup_1h_days")
        return self


class Query(Section):
    host: str = "127.0.0.1"
    """Address the query service listens on. Loopback: it has no authentication."""
    port: int = Field(9690, ge=1, le=65535)
    """Port it listens on. 9690: free on machines that run Prometheus (9090)."""
    lookback_s: int = Field(300, gt=0)
    """Seconds an instant selector looks back. 300 as in Prometheus: dashboards moved here keep
    their answers."""
    poll_ms: int = Field(250, ge=10)
    """Milliseconds between looks at the tables' logs. 250: a small part of an answer's age."""
    max_points: int = Field(11_000, gt=0)
    """Points of one series in a range query. 11,000 as in Prometheus."""
    max_samples: int = Field(50_000_000, gt=0)
    """Samples one query may hold. 50 M as in Prometheus."""
    timeout_s: float = Field(120, gt=0)
    """Seconds one query may take. 120 as in Prometheus."""
    cores: int = Field(0, ge=0)
    """Cores that queries use at once; a query on idle ones evaluates independent parts side by
    side. 0: all of the machine. 1 where other processes keep it busy: then threads only wait."""
    cache_mb: int = Field(512, ge=16)
    """MiB of decoded files kept in memory. 512: a small part of a laptop's memory."""


class Collector(Section):
    enabled: bool = True
    """Whether `varve up` measures this machine."""
    interval_s: float = Field(5.0, gt=0)
    """Seconds between measurements. 5: a spike of ten seconds shows."""
    instance: str = ""
    """Label instance of its series. Empty: this machine's name."""


class Demo(Section):
    days: float = Field(8, gt=0)
    """Days of generated history. 8: a week for a baseline and a day to compare."""
    interval_s: int = Field(60, gt=0)
    """Seconds between its samples. 60: a million samples in all."""
    seed: int = 1
    """Equal seeds and end times give equal values."""


class Supervision(Section):
    attempts: int = Field(5, ge=0)
    """Restarts of a component in a row before `varve up` gives up. 5: half a minute of trying."""
    backoff_s: float = Field(1.0, gt=0)
    """Seconds before the first restart; each further one waits twice as long. 1: most causes
    pass."""
    healthy_after_s: float = Field(60, gt=0)
    """Seconds a component must be ready for its restarts to be forgotten. 60: past its start."""
    log_bytes: int = Field(10_000_000, gt=0)
    """Bytes of a component's log before it is rotated; three older ones are kept. 10 MB can still
    be opened in an editor."""


class Telemetry(Section):
    host: str = "127.0.0.1"
    """Address that streams, jobs and `varve up` serve /metrics on. Loopback: it has no
    authentication. The query service serves its own on query.port."""
    port: int = Field(9691, ge=0, le=65535)
    """Port of the streams, and of each job. 9691, next to the query service. 0: any that is free;
    the log and the status file name it."""
    up_port: int = Field(9692, ge=0, le=65535)
    """Port of `varve up` itself: whether its components run. 0: any that is free."""
    collected: bool = True
    """Whether the collector sends these metrics through Kafka into Varve, as any others."""


class Logs(Section):
    format: Literal["text", "json"] = "text"
    """text: lines for people. json: one object a line, with ts, level, logger, message and what
    belongs to it."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged: this and worse. INFO: a line a batch."""


class Settings(Section):
    home: Path = Path(".varve")
    """Folder of everything `varve up` keeps: tables, broker, logs."""
    kafka: Kafka = Kafka()
    storage: Storage = Storage()
    spark: Spark = Spark()
    ingest: Ingest = Ingest()
    rollup: Rollup = Rollup()
    retention: Retention = Retention()
    query: Query = Query()
    collector: Collector = Collector()
    demo: Demo = Demo()
    supervision: Supervision = Supervision()
    telemetry: Telemetry = Telemetry()
    logs: Logs = Logs()

    def ingest_queries(self) -> dict[str, str]:
        """Name and topic of each ingest query."""
        return {"bulk": self.kafka.topics.raw, "critical": self.kafka.topics.critical}

    def storage_root(self) -> str:
        return self.storage.root or str((self.home / "tables").absolute())

    def storage_options(self) -> dict[str, str]:
        return {k: v.get_secret_value() for k, v in self.storage.options.items()}

    def secrets(self) -> tuple[str, ...]:
        """Values that no log may show: passwords, keys, tokens, by the names of their options."""
        options = {**self.kafka.client_options(), **self.storage_options()}
        options["kafka.password"] = self.kafka.password.get_secret_value()
        found = {v for k, v in options.items() if _SECRET.search(k)}
        # A password is also known by itself, apart from the line that gives it to Kafka.
        found |= {word for text in found for word in _QUOTED.findall(text)}
        # Shorter ones would take words out of every line, and are no secrets.
        return tuple(sorted((v for v in found if len(v) > 3), key=len, reverse=True))


def load(
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """The settings, and for every key that is not a default ("kafka.port") where it came from.

    overrides: options of the command line by dotted key. file: by default that of VARVE_CONFIG,
    else the checkout's conf/varve.toml.
    Raises NeedsOperator for a missing file, bad TOML, an unknown key (naming the nearest) or a
    value out of bounds.
    """
    env = os.environ if env is None else env
    origins: dict[str, str] = {}
    tree: dict[str, Any] = {}
    if file is None:
        file = Path(env[CONFIG_ENV]) if env.get(CONFIG_ENV) else _default_file()
    if file is not None:
        tree = _read(file)
        origins |= dict.fromkeys(_keys(tree), str(file))
    for name, value in sorted(env.items()):
        if name.startswith(ENV_PREFIX) and name != CONFIG_ENV:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            _put(tree, key, value, name)
            origins[key] = name
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(tree, key, value, "command line")
            origins[key] = "command line"
    try:
        return Settings.model_validate(tree), origins
    except ValidationError as err:
        raise NeedsOperator("\n".join(_explain(e, origins) for e in err.errors())) from err


def _default_file() -> Path | None:
    file = conf_dir() / "varve.toml"
    return file if file.is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as err:
        raise NeedsOperator(f"cannot read the settings in {file}: {err.strerror}") from err
    except tomllib.TOMLDecodeError as err:
        raise NeedsOperator(f"{file} is not valid TOML: {err}") from err


def _put(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise NeedsOperator(f"{origin}: {section} is a section of settings, not a value")
    tree[last] = value


def _keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in tree.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return keys


def _explain(error: Any, origins: Mapping[str, str]) -> str:
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    origin = next(
        (o for k, o in origins.items() if k == key or k.startswith(key + ".")), "settings"
    )
    if error["type"] == "extra_forbidden":
        section: Any = Settings
        for part in where[:-1]:
            section = section.model_fields[part].annotation
        near = difflib.get_close_matches(where[-1], section.model_fields, n=1, cutoff=0.5)
        hint = f"; did you mean {'.'.join([*where[:-1], near[0]])}?" if near else ""
        return f"{origin}: there is no setting {key}{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{origin}: {key or 'settings'}: {message[0].lower()}{message[1:]}"
