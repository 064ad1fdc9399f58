"""The folder `varve up` keeps everything in: its mark, its identity, its lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from varve import __version__
from varve.model.errors import NeedsOperator
from varve.services.status import read_status, replace_file
from varve.settings import Settings

MARKER = "varve-home.json"
"""The mark of a home. What Varve did not mark, it neither uses as a home nor deletes."""

# What Varve makes in a home. Nothing else in the folder is ever touched.
DATA = ("tables", "kafka", "spark", "notify", "logs", "run", "demo-summary.json")
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

    @property
    def id(self) -> str | None:
        """Tells this home from every other, wherever it is moved to. None until it is marked."""
        try:
            return str(json.loads((self.path / MARKER).read_text())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def recognised(self) -> bool:
        """Whether Varve made this home: it has the mark, or the parts of an earlier release."""
        return (self.path / MARKER).is_file() or _of_an_earlier_release(self.path)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder if need be and keeps it for this process until the block ends.

        Raises NeedsOperator, naming the holder, if another process has it; the kernel frees
        the lock when its holder dies, however it dies. Raises it, too, for a folder that has
        parts of a home which Varve did not make.
        """
        self._require_ours()
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
            with contextlib.suppress(OSError):  # the disk may be full: the lock holds anyway
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(holder).encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def mark(self) -> None:
        """Gives the home its identity, once. Hold it before."""
        if self.id is None:
            mark = {"id": uuid.uuid4().hex, "made_by": __version__, "made": int(time.time())}
            try:
                replace_file(self.path / MARKER, json.dumps(mark) + "\n")
            except OSError as err:
                raise NeedsOperator(f"cannot use {self.path} as home: {err.strerror}") from err

    def parts(self) -> dict[str, int]:
        """Bytes of each part of the data that is there. A link has those of itself."""
        return {name: _size(self.path / name) for name in DATA if os.path.lexists(self.path / name)}

    def delete_data(self) -> None:
        """Deletes the data, the mark last. Hold the home before. Links are never followed."""
        with contextlib.suppress(NeedsOperator):  # the disk may be full, which is why this is done
            self.mark()  # a second try must know what is left of an earlier release's home
        for name in (*DATA, MARKER):
            part = self.path / name
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)

    def _require_ours(self) -> None:
        foreign = list(self.parts())
        if foreign and not self.recognised():
            raise NeedsOperator(_not_ours(self.path, foreign))


def require_data(settings: Settings) -> None:
    """Raises NeedsOperator if neither the home nor tables elsewhere are there to be asked."""
    home = Home.at(settings.home)
    if not settings.storage.root and not home.path.is_dir():
        raise NeedsOperator(
            f"there is no home {home.path}: `varve up` makes one; --home names another"
        )


def identity(settings: Settings) -> str:
    """What a service answers for, and a client looks for: a home, or tables that lie elsewhere."""
    own = None if settings.storage.root else Home.at(settings.home).id
    if own is not None:
        return own
    root = settings.storage_root()
    if "://" not in root:
        root = os.path.realpath(root)
    return hashlib.sha256(root.rstrip("/").encode(errors="surrogateescape")).hexdigest()[:32]


def _of_an_earlier_release(path: Path) -> bool:
    """Whether the folder has tables of ours, our broker's settings, or a component's last word."""
    return (
        _is_our_table(path / "tables" / "samples", "series_id", "ts", "value")
        or _begins_with(path / "kafka" / "server.properties", "# Written by Varve")
        or bool(read_status(path))
    )


def _is_our_table(path: Path, *columns: str) -> bool:
    """Whether the first version of a Delta table there has these columns."""
    try:
        lines = (path / "_delta_log" / f"{0:020}.json").read_text().splitlines()
        actions = [json.loads(line) for line in lines]
        schemas = [json.loads(a["metaData"]["schemaString"]) for a in actions if "metaData" in a]
        fields = {field["name"] for schema in schemas for field in schema["fields"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fields.issuperset(columns)


def _begins_with(path: Path, text: str) -> bool:
    try:
        return path.read_text(errors="replace").startswith(text)
    except OSError:
        return False


def _not_ours(path: Path, parts: list[str]) -> str:
    return (
        f"{path} is no home of Varve, and has {', '.join(parts)} of somebody else's: choose another"
        f" folder with --home"
    )


def _held_by(path: Path, descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 65_536, 0))
    except ValueError:
        return f"{path} is held by a process that is just starting or stopping; try again"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return (
        f"{path} is held by process {holder['pid']} since {since} ({holder['command']});"
        " stop that one first or choose another folder with --home"
    )


def _command() -> str:
    return " ".join(["varve", *sys.argv[1:]])


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links count themselves alone."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                total += Path(folder, name).lstat().st_size
    return total
