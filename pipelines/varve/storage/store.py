"""Where the tables are: a root on local disk or in an object store, with one folder per table.

Two promises of this module carry the commit protocol: `put_if_absent` lets exactly one of several
rivals create a file, and what it or `sync` returned from survives a loss of power.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from varve.model.errors import NeedsOperator
from varve.storage import local_files
from varve.storage.object_store import ObjectStore, Options, data_filesystem

COLDER = "colder:"
"""What begins the path of a file in the next colder root; twice for one in the root after that."""

# Requests under way at once when many small files are read from an object store.
_REQUESTS = 16


@dataclass(frozen=True)
class Store:
    """root: an absolute path, or a URL such as s3://bucket/prefix, whose bucket and prefix are
    taken as they are, not as escaped. options: storage options by the names of delta-rs
    (AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...); what is not given is taken from the
    environment or the machine's role. colder: the root that old files move to, if there is one; it
    has tables of the same names. Cheap to pickle to a task.

    Every method that reads or writes raises OSError if the storage fails, and StorageFull, which
    is one, without room. Raises NeedsOperator for options under which two writers could overwrite
    each other.
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict)
    colder: Store | None = None

    def __post_init__(self) -> None:
        given = {k.lower(): v for k, v in self.options.items()}
        put = given.get("aws_conditional_put", given.get("conditional_put", "etag"))
        if put != "etag" or given.get("aws_s3_allow_unsafe_rename", "false").lower() == "true":
            raise NeedsOperator(
                "storage.options: without conditional puts, writers would overwrite each other's"
                " commits; remove aws_conditional_put and aws_s3_allow_unsafe_rename"
            )

    @classmethod
    def of_roots(cls, roots: Sequence[tuple[str, Mapping[str, str]]]) -> Store:
        """The first of some roots with their options, each with the next one as its colder root."""
        colder: Store | None = None
        for root, options in reversed(roots[1:]):
            colder = cls(root, options, colder)
        root, options = roots[0]
        return cls(root, options, colder)

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @property
    def alone(self) -> Store:
        """This root without the colder ones."""
        return self if self.colder is None else replace(self, colder=None)

    def roots(self) -> list[Store]:
        """This root and all colder ones, each alone."""
        return [self.alone, *([] if self.colder is None else self.colder.roots())]

    def place(self, path: str) -> tuple[Store, str]:
        """The root that a file lies in, alone, and its path there. ValueError if there is no such
        root.
        """
        root: Store | None = self
        while root is not None and path.startswith(COLDER):
            root, path = root.colder, path.removeprefix(COLDER)
        if root is None:
            raise ValueError(f"{path} is in a colder root, and {self.root} has none")
        return root.alone, path

    def open_file(self, table: str, path: str) -> pa.NativeFile:
        """A data file of any root, to be read. Raises FileNotFoundError."""
        root, own = self.place(path)
        return root.filesystem(table).open_input_file(own)

    def uri(self, table: str) -> str:
        """The table's folder, for people and for programs that take it as it is."""
        return f"{self.root.rstrip('/')}/{table}"

    def prepare(self, table: str, folder: str = "_delta_log") -> None:
        """Makes the table's folder, and `folder` in it, where folders exist."""
        if self.is_local:
            made = self._path(table, folder)
            made.mkdir(parents=True, exist_ok=True)
            # The names of the folders must outlive a loss of power, as what is in them does.
            for parent in (made.parent, made.parent.parent):
                local_files.sync(parent)

    def filesystem(self, table: str) -> pafs.FileSystem:
        """The data files of this root, by paths relative to the table's folder, to be read."""
        if self.is_local:
            return _local_filesystem(self.uri(table))
        return data_filesystem(self.uri(table), self._sorted_options())

    def read(self, table: str, path: str) -> bytes:
        """Raises FileNotFoundError."""
        if self.is_local:
            return self._path(table, path).read_bytes()
        return self._objects(table).read(path)

    def read_many(self, table: str, paths: Sequence[str]) -> Iterator[bytes | None]:
        """Contents in the order of paths, None where there is no file. Object stores are asked
        many at a time.
        """
        if self.is_local or len(paths) == 1:
            yield from (self._read_if_there(table, path) for path in paths)
            return
        with ThreadPoolExecutor(_REQUESTS) as pool:
            yield from pool.map(lambda path: self._read_if_there(table, path), paths)

    def exists(self, table: str, path: str) -> bool:
        if self.is_local:
            return self._path(table, path).exists()
        return self._objects(table).exists(path)

    def list(self, table: str, folder: str, after: str = "") -> list[str]:
        """Names in a folder that sort after `after`, ascending; none if there is no such folder."""
        if self.is_local:
            try:
                with os.scandir(self._path(table, folder)) as found:
                    return sorted(entry.name for entry in found if entry.name > after)
            except FileNotFoundError:
                return []
        return list(self._objects(table).list(folder, after))

    def put_new(self, table: str, path: str, body: bytes) -> None:
        """Writes a file of a name that nobody looks for yet. It survives a loss of power once
        `sync` has returned. Leaves nothing behind if it fails.
        """
        if self.is_local:
            local_files.create(self._path(table, path), body)
        else:
            self._objects(table).put(path, body)

    def put_if_absent(self, table: str, path: str, body: bytes) -> bool:
        """Creates a file, whole or not at all. False, and nothing changed, if there was one.

        On any exception but StorageFull the outcome is unknown: the file may be there, or appear
        later.
        """
        if self.is_local:
            return local_files.create_if_absent(self._path(table, path), body)
        try:
            self._objects(table).put(path, body, if_absent=True)
        except FileExistsError:
            return False
        return True

    def put(self, table: str, path: str, body: bytes) -> None:
        """Writes a file, whole or not at all, in place of any that is there."""
        if self.is_local:
            local_files.replace(self._path(table, path), body)
        else:
            self._objects(table).put(path, body)

    def delete(self, table: str, paths: Sequence[str]) -> None:
        """Deletes files in the order of paths; those that are not there are passed over."""
        if self.is_local:
            for path in paths:
                self._path(table, path).unlink(missing_ok=True)
        else:
            self._objects(table).delete(paths)

    def sync(self, table: str) -> None:
        """Returns once all files of the table's folder that were written are on stable storage."""
        if self.is_local:
            local_files.sync(Path(self.uri(table)))

    def require_conditional_put(self) -> None:
        """Raises NeedsOperator if the object store ignores If-None-Match, as some imitations of
        S3 do: of two rival commits the second would silently erase the first.
        """
        if self.is_local:
            return
        path = uuid.uuid4().hex
        self.put_if_absent("_probe", path, b"first")
        overwritten = self.put_if_absent("_probe", path, b"second")
        self.delete("_probe", [path])
        if overwritten:
            raise NeedsOperator(
                f"{self.root}: this object store overwrites a file in spite of If-None-Match, so"
                " commits would be lost; use one with conditional puts, such as AWS S3 or MinIO"
            )

    def _read_if_there(self, table: str, path: str) -> bytes | None:
        try:
            return self.read(table, path)
        except FileNotFoundError:
            return None

    def _path(self, table: str, path: str) -> Path:
        return Path(self.uri(table)) / path

    def _objects(self, table: str) -> ObjectStore:
        return _object_store(self.uri(table), self._sorted_options())

    def _sorted_options(self) -> Options:
        return tuple(sorted(self.options.items()))


@cache
def _local_filesystem(folder: str) -> pafs.FileSystem:
    return pafs.SubTreeFileSystem(folder, pafs.LocalFileSystem())


@cache
def _object_store(url: str, options: Options) -> ObjectStore:
    return ObjectStore(url, options)
