"""Which Java to run Spark and Kafka with."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from varve.setup.console import SetupError

SUPPORTED = (17, 21)
INSTALL_HINT = (
    "install one (Debian, Ubuntu: openjdk-17-jre-headless; Fedora: java-21-openjdk-headless)"
    " or set JAVA_HOME to it"
)

_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was run. `major` is 8 for Java 1.8; `executable` is under `home`."""

    home: Path
    major: int

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def find_java(env: Mapping[str, str], *, system: Path = Path("/usr/lib/jvm")) -> Java:
    """The first Java 17 or 21 of JAVA_HOME, PATH and the folders of `system`, in this order.

    Starts each candidate once (about 0.1 s). Raises SetupError, naming what was found instead.
    """
    found: list[str] = []
    for executable in _candidates(env, system):
        java = _probe(executable, env)
        if java is None:
            found.append(f"{executable} does not run")
        elif java.major in SUPPORTED:
            return java
        else:
            found.append(f"{executable} is Java {java.major}")
    wanted = " or ".join(str(major) for major in SUPPORTED)
    raise SetupError(f"Varve needs Java {wanted} ({'; '.join(found) or 'none'}): {INSTALL_HINT}.")


def _candidates(env: Mapping[str, str], system: Path) -> Iterator[Path]:
    if home := env.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=env.get("PATH", os.defpath)):
        yield Path(on_path)
    yield from sorted(system.glob("*/bin/java"))


def _probe(executable: Path, env: Mapping[str, str]) -> Java | None:
    """None if it cannot be started or does not answer as a Java does."""
    try:
        answer = subprocess.run(
            [executable, "-XshowSettings:properties", "-version"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = answer.stderr + answer.stdout
    home = re.search(r"^ *java\.home = (.+)$", text, re.MULTILINE)
    version = re.search(r"^ *java\.specification\.version = (?:1\.)?(\d+)", text, re.MULTILINE)
    if home is None or version is None:
        return None
    return Java(Path(home[1].strip()), int(version[1]))
