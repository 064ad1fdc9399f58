"""The environment that runs Airflow, apart from Varve's own: their pins do not mix."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from varve.setup.console import say
from varve.setup.environment import download_size
from varve.setup.installer import Installer

LOCK = Path("airflow", "requirements.lock")
"""Relative to the checkout."""

_FOLDER = ".venv-airflow"
_MARK = "varve-airflow.sha256"


def install_airflow(root: Path, env: Mapping[str, str]) -> Path:
    """Makes or renews .venv-airflow of the checkout `root` and returns its folder; in no time if it
    is what the lock says. May be interrupted anywhere and run again.

    Blocks for downloads. Raises SetupError.
    """
    folder, lock = root / _FOLDER, root / LOCK
    mark, digest = folder / _MARK, f"{root}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    if mark.exists() and mark.read_text() == digest:
        return folder
    if (folder / "bin").exists():
        say(f"{_FOLDER} is not what {LOCK} says: making it anew.")
        shutil.rmtree(folder)
    scratch = folder / ".scratch"
    scratch.mkdir(parents=True)
    installer = Installer(folder, scratch, dict(env))
    installer.create()
    say(f"Installing Airflow with {installer.name}{download_size(lock)} ...")
    installer.install(lock)
    shutil.rmtree(scratch)
    mark.write_text(digest)
    return folder
