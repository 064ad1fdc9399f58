"""The folder `varve up` keeps everything in, and the lock that gives it to one process."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from varve.model.errors import NeedsOperator

# What Varve makes in a home. Nothing else in the folder is ever touched.
DATA = ("tables", "kafka", "spark", "logs", "run", "demo-summary.json")
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of a home; the folder itself is absolute."""

    path: Path

    @staticmethod
    def at(path: Path) -> Home:
        return Home(path.expanduser().absolute())

    @property
    def kafka(self) -> Path:
        return self.path / "kafka"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder if need be and keeps it for this process until the block ends.

        Raises NeedsOperator, naming the holder, if another process has it; the kernel frees
        the lock when its holder dies, however it dies.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as err:
            raise NeedsOperator(
                f"cannot use {self.path} as home: {err.strerror}; choose another with --home"
            ) from err
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise NeedsOperator(_held_by(self.path, descriptor)) from err
            holder = {"pid": os.getpid(), "command": _command(), "since": int(time.time())}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def size_bytes(self) -> dict[str, int]:
        """Bytes of each part of the data that is there."""
        return {name: _size(self.path / name) for name in DATA if (self.path / name).exists()}

    def delete_data(self) -> None:
        """Deletes the data. Hold the home before."""
        for name in DATA:
            part = self.path / name
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)


def _held_by(path: Path, descriptor: int) -> str:
    text = os.pread(descriptor, 65_536, 0)
    if not text:
        return f"{path} is held by a process that is just starting or stopping; try again"
    holder = json.loads(text)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return (
        f"{path} is held by process {holder['pid']} since {since} ({holder['command']});"
        " stop that one first or choose another folder with --home"
    )


def _command() -> str:
    return " ".join(["varve", *sys.argv[1:]])


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(f.lstat().st_size for f in path.rglob("*") if not f.is_dir())
