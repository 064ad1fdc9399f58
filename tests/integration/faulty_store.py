"""A store whose reads a test can fail or hold up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow.fs as pafs

from varve.storage.store import Store


class Fault:
    """Lets a number of requests to the storage pass, then fails some.

    While `held` has a part of a path, whoever opens such a file waits for `release`.
    """

    def __init__(self):
        self.passing = 1 << 62
        self.failing = 0
        self.hit = False
        self.held = frozenset()
        self.waiting = threading.Semaphore(0)
        self._open = threading.Event()

    def hold(self, *paths):
        self._open.clear()
        self.held = frozenset(paths)

    def release(self):
        self.held = frozenset()
        self._open.set()

    def wait(self, path):
        if path in self.held:
            self.waiting.release()
            assert self._open.wait(60)

    def arm(self, passing, failing):
        self.passing, self.failing, self.hit = passing, failing, False

    def __call__(self):
        self.passing -= 1
        if -self.failing <= self.passing < 0:
            self.hit = True
            raise OSError("injected")


class FaultyFiles(pafs.FileSystemHandler):
    """Files of a table, where every look and every opening may fail."""

    def __init__(self, inner, fault):
        self.inner, self.fault = inner, fault

    def get_type_name(self):
        return "faulty"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        self.fault()
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector):
        self.fault()
        return self.inner.get_file_info(selector)

    def open_input_file(self, path):
        self.fault()
        self.fault.wait(path)
        return self.inner.open_input_file(path)

    def open_input_stream(self, path):
        self.fault()
        return self.inner.open_input_stream(path)

    def _writes(self, *_, **__):
        raise AssertionError("a reader writes nothing")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _writes
    delete_file = move = copy_file = open_output_stream = open_append_stream = _writes


@dataclass(frozen=True)
class FaultyStore(Store):
    fault: Fault = field(default_factory=Fault)

    def filesystem(self, table: str) -> pafs.FileSystem:
        return pafs.PyFileSystem(FaultyFiles(super().filesystem(table), self.fault))

    def read(self, table: str, path: str) -> bytes:
        self.fault()
        return super().read(table, path)

    def list(self, table: str, folder: str, after: str = "") -> list[str]:
        self.fault()
        return super().list(table, folder, after)

    def read_many(self, table, paths) -> Iterator[bytes | None]:
        for path in paths:
            self.fault()
            yield self._read_if_there(table, path)

    def exists(self, table: str, path: str) -> bool:
        self.fault()
        return super().exists(table, path)
