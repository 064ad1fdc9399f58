"""The folder of a stream's checkpoint: serves Spark within one run, and is deleted after it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

_NAME = re.compile(r"varve-(\w[\w-]*)-(\d+)-\w+")


def make(stream: str) -> tempfile.TemporaryDirectory[str]:
    """A new folder in the machine's temporary one, named for this process. Removes those of this
    user that processes have left which were killed.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    return tempfile.TemporaryDirectory(prefix=f"varve-{stream}-{os.getpid()}-")


def remove_abandoned(folder: Path) -> None:
    """Removes checkpoint folders of processes that no longer live."""
    for path in folder.glob("varve-*-*-*"):
        found = _NAME.fullmatch(path.name)
        if found is None or psutil.pid_exists(int(found[2])):
            continue
        try:
            is_ours = path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()
        except OSError:
            continue
        if is_ours:
            shutil.rmtree(path, ignore_errors=True)
