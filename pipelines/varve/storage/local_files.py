"""Files on a local disk that are there whole or not at all, also after a loss of power."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from varve.model.errors import NeedsOperator, StorageFull

# What os.link says where there are no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def create(path: Path, body: bytes) -> None:
    """Writes a file of a name that nobody looks for yet, and that `sync` of its folder makes
    safe. Leaves nothing behind if it fails: StorageFull without room, else OSError.
    """
    try:
        with _room(path), path.open("xb") as out:
            _write(out.fileno(), body)
    except FileExistsError:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace(path: Path, body: bytes) -> None:
    """Writes a file in place of any of that name. Errors as in `create`."""
    with _temporary(path, body) as temporary:
        temporary.replace(path)
    sync(path.parent)


def create_if_absent(path: Path, body: bytes) -> bool:
    """Writes a file unless there is one of that name; whether it did. Errors as in `create`.

    Raises NeedsOperator on a file system without hard links.
    """
    # A hard link refuses an existing name, which a rename does not; and the name must not appear
    # before the content is safe: after a loss of power an empty commit would break the table.
    with _temporary(path, body) as temporary:
        try:
            with _room(path):
                os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as err:
            if err.errno not in _NO_LINKS:
                raise
            raise NeedsOperator(
                f"{path.parent}: this file system has no hard links, so commits could overwrite"
                " each other; set storage.root to a folder of another (ext4, XFS, APFS, ...)"
            ) from err
    sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Returns once a file, or what a folder lists, is on stable storage."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, body: bytes) -> Iterator[Path]:
    """A safe file with the content that `path` is to have, gone in the end if it still has its
    name.
    """
    # Beside the log: no program takes it for a part of it.
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    create(temporary, body)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write(descriptor: int, body: bytes) -> None:
    left = memoryview(body)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


@contextlib.contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno not in _FULL:
            raise
        raise StorageFull(err.errno, f"no room to write {path.name}", str(path.parent)) from err
