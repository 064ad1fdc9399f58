"""Environments beside Varve's own, whose pins do not mix with its: that of Airflow, and that of an
engine which reads the tables in tests.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from varve.setup.console import say
from varve.setup.environment import download_size
from varve.setup.installer import Installer


@dataclass(frozen=True, slots=True)
class SideEnvironment:
    """What to make where. folder, lock: relative to the checkout."""

    name: str
    folder: str
    lock: Path


AIRFLOW = SideEnvironment("Airflow", ".venv-airflow", Path("airflow", "requirements.lock"))
DELTA_SCAN = SideEnvironment(
    "DuckDB's delta extension", ".venv-delta", Path("tests", "delta_scan", "requirements.lock")
)
SIDE_ENVIRONMENTS = (AIRFLOW, DELTA_SCAN)


def bring_up(side: SideEnvironment, root: Path, env: Mapping[str, str]) -> Path:
    """Makes or renews an environment of the checkout `root` and returns its folder; in no time if
    it is what the lock says. May be interrupted anywhere and run again.

    Blocks for downloads. Raises SetupError.
    """
    folder, lock = root / side.folder, root / side.lock
    mark = folder / f"{side.folder.replace('.venv', 'varve')}.sha256"
    digest = f"{root}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    if mark.exists() and mark.read_text() == digest:
        return folder
    if (folder / "bin").exists():
        say(f"{side.folder} is not what {side.lock} says: making it anew.")
        shutil.rmtree(folder)
    scratch = folder / ".scratch"
    scratch.mkdir(parents=True)
    installer = Installer(folder, scratch, dict(env))
    installer.create()
    say(f"Installing {side.name} with {installer.name}{download_size(lock)} ...")
    installer.install(lock)
    shutil.rmtree(scratch)
    mark.write_text(digest)
    return folder
