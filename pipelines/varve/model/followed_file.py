"""A file of a person's choices that is read again whenever it changes, without a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from varve.model.errors import NeedsOperator
from varve.model.text_file import read_text

T = TypeVar("T")


class FollowedFile(Generic[T]):
    """What a file says. Not safe to share between threads."""

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        parse: Callable[[str, str], T],
        absent: T,
        log: logging.Logger,
    ) -> None:
        """The first of the paths that exists is read; without any, `absent` is in force.

        name: what it holds, for logs and errors. parse: makes a value of the text and its origin,
        or raises NeedsOperator, as this does if the file cannot be read or is malformed now.
        """
        self._name, self._paths, self._parse, self._absent = name, tuple(paths), parse, absent
        self._log = log
        self._seen = self._state()
        self._value = self._load()

    def current(self) -> T:
        """What the file says now. A file that has become malformed changes nothing."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._value = self._load()
                self._log.info("%s: %s is in force", self._name, state[0] if state else "none")
            except NeedsOperator as err:
                self._log.error("%s stay as they were: %s", self._name, err)
        return self._value

    def _load(self) -> T:
        if self._seen is None:
            return self._absent
        path = self._seen[0]
        try:
            text = read_text(path)
        except OSError as err:
            raise NeedsOperator(f"cannot read the {self._name} in {path}: {err.strerror}") from err
        except ValueError as err:  # of another encoding
            raise NeedsOperator(str(err)) from err
        return self._parse(text, str(path))

    def _state(self) -> tuple[Path, int, int] | None:
        for path in self._paths:
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:  # which reading it will say
                return path, 0, 0
            return path, status.st_mtime_ns, status.st_size
        return None
