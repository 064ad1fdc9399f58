"""The Kafka broker `varve up` runs: one KRaft node on loopback, bounded in disk and memory.

Real Kafka, so that everything above it is tested against what a cluster will have. Tests use the
same class: `with Broker(directory) as broker: broker.bootstrap_servers`.
Source: Kafka 4.3, "KRaft configuration" and "Broker configs".
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from varve.kafka.connection import answers
from varve.model.errors import NeedsOperator
from varve.model.resources import jars_dir
from varve.setup.console import SetupError
from varve.setup.java import find_java

HOST = "127.0.0.1"
# One message may be this long. Ten times Kafka's default: a producer's oversized batch has to
# reach quarantine, where its owner finds it, instead of vanishing in the producer's log.
MAX_MESSAGE_BYTES = 16 * 2**20
# A power cut may take so much of what the broker has acknowledged. By default Kafka leaves writing
# to the kernel, which takes half a minute, and relies on replicas that a single broker has not.
FLUSH_MS = 1_000
# Below those of outgoing connections: from 32768 on Linux, 49152 elsewhere.
PORTS = range(20_000, 32_000)
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0

# Quick to start and small, at some peak speed that one machine's metrics never need.
_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %-5p %c{1} %m%n%rEx{4}
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """What a broker is started with.

    directory: its own folder, made if missing; it runs there, so any path will do. retention_ms:
    how long topics without a retention of their own keep messages. extra: properties of Kafka's
    that beat those here, to run a broker as companies do: with TLS, logins, rights.
    """

    directory: Path
    port: int
    controller_port: int
    heap_mb: int
    retention_ms: int
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def properties(self) -> str:
        """The text of server.properties. Kafka takes the last of two properties of one name."""
        return self._ours() + "".join(f"{name}={value}\n" for name, value in self.extra.items())

    def _ours(self) -> str:
        return f"""\
# Written by Varve at every start; change the settings [kafka] instead.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{self.controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{self.port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
message.max.bytes={MAX_MESSAGE_BYTES}
log.flush.interval.ms={FLUSH_MS}
log.flush.scheduler.interval.ms={FLUSH_MS}
log.retention.ms={self.retention_ms}
log.retention.check.interval.ms=30000
log.segment.delete.delay.ms=10000
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=2
group.initial.rebalance.delay.ms=0
"""


def prepare(config: BrokerConfig) -> None:
    """Writes the broker's files and, the first time, gives its data folder an identity.

    Takes about 2 s the first time. Raises NeedsOperator if Java or the jars are missing or the
    folder cannot be used.
    """
    config.directory.mkdir(parents=True, exist_ok=True)
    properties = config.directory / "server.properties"
    properties.touch(mode=0o600)  # it may hold passwords
    properties.write_text(config.properties())
    (config.directory / "log4j2.properties").write_text(_LOGGING)
    if (config.data / "meta.properties").exists():
        return
    answer = subprocess.run(
        [
            *_java("-Xmx128m"),
            *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
            *("-t", _new_cluster_id(), "-c", "server.properties"),
        ],
        cwd=config.directory,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=START_DEADLINE_S,
    )
    if answer.returncode != 0:
        raise NeedsOperator(
            f"Kafka could not set up {config.data}: {answer.stdout.strip()[-1_000:]}"
        )


def command(config: BrokerConfig) -> list[str]:
    """The broker's process, to be started in its directory after `prepare`."""
    heap = (f"-Xms{min(128, config.heap_mb)}m", f"-Xmx{config.heap_mb}m")
    return [*_java(*heap), "kafka.Kafka", "server.properties"]


def cluster_id(config: BrokerConfig) -> str:
    """The identity that `prepare` gave the broker; it tells the broker from another at its port."""
    lines = (config.data / "meta.properties").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


class Broker:
    """A broker as a child process, for the length of a `with` block. Starts in about 5 s.

    port 0 picks free ones. A second `start` on the same directory finds the topics of the first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        controller_port: int = 0,
        heap_mb: int = 256,
        retention_ms: int = 7_200_000,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.config = BrokerConfig(
            directory,
            port or free_port(),
            controller_port or free_port(),
            heap_mb,
            retention_ms,
            extra or {},
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return self.config.bootstrap_servers

    @property
    def pid(self) -> int:
        """Of the JVM. Raises ValueError if it does not run."""
        if self._process is None:
            raise ValueError("the broker does not run")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.config.directory / "broker.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Blocks until it answers. Raises NeedsOperator with its last words if it does not."""
        prepare(self.config)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(self.config),
                cwd=self.config.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        mine = cluster_id(self.config)
        while not answers(self.bootstrap_servers, cluster=mine):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self.log.read_text(errors="replace").strip()[-2_000:]
                self.stop()
                raise NeedsOperator(f"the Kafka broker did not start; its last words: {words}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it in order, or by force after STOP_DEADLINE_S seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends it at once. What it wrote is in the page cache, so only a power cut loses it."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def free_port() -> int:
    """Finds a port of loopback that nobody listens on now.

    It is none of those that the kernel gives to outgoing connections: a client that calls again
    and again while the broker is away would get the very port one day, connect to itself and keep
    the broker from coming back.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise NeedsOperator(f"all ports from {PORTS.start} to {PORTS.stop - 1} are taken")


def _java(*options: str) -> list[str]:
    try:
        java = find_java(os.environ)
        jars = jars_dir("kafka")
    except (SetupError, FileNotFoundError) as err:
        raise NeedsOperator(f"cannot run a Kafka broker: {err}") from err
    return [str(java.executable), *_JVM, *options, "-cp", f"{jars}/*"]


def _environment() -> dict[str, str]:
    """The environment without what other programs set for their own JVM: a debugger, a heap."""
    return {k: v for k, v in os.environ.items() if k not in {"CLASSPATH", "JDK_JAVA_OPTIONS"}}


def _new_cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in URL-safe base64.

    It does not begin with a dash, which Kafka's command line would take for an option.
    """
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
