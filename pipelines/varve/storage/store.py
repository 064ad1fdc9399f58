"""Where the tables are: a root on local disk or in an object store, with one folder per table.

Two promises of this module carry the commit protocol: `put_if_absent` lets exactly one of several
rivals create a file, and what it or `sync` returned from survives a loss of power.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import obstore
import pyarrow.fs as pafs
from deltalake.fs import DeltaStorageHandler
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from varve.model.errors import NeedsOperator

# What os.link says where there are no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
# Requests under way at once when many small files are read from an object store.
_REQUESTS = 16
# Options that only delta-rs knows; the client of the log refuses what it does not know.
_DELTA_ONLY = ("aws_force_credential_load", "aws_s3_", "aws_sts_", "aws_iam_", "dynamo")
# Options of the connection, which that client takes apart from those of the service.
_CONNECTION = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "timeout",
        "user_agent",
    }
)


@dataclass(frozen=True)
class Store:
    """root: an absolute path, or a URL such as s3://bucket/prefix. options: storage options by
    the names of delta-rs (AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...); what is not
    given is taken from the environment or the machine's role. Cheap to pickle to a task.

    Raises NeedsOperator for options under which two writers could overwrite each other.
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {k.lower(): v for k, v in self.options.items()}
        put = given.get("aws_conditional_put", given.get("conditional_put", "etag"))
        if put != "etag" or given.get("aws_s3_allow_unsafe_rename", "false").lower() == "true":
            raise NeedsOperator(
                "storage.options: without conditional puts, writers would overwrite each other's"
                " commits; remove aws_conditional_put and aws_s3_allow_unsafe_rename"
            )

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @property
    def delta_options(self) -> dict[str, str]:
        """options, completed by what follows from them: plain http and a region for an endpoint
        of one's own.
        """
        return _completed(tuple(sorted(self.options.items())))

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def prepare(self, table: str) -> None:
        """Makes the table's folder where folders exist."""
        if self.is_local:
            (Path(self.uri(table)) / "_delta_log").mkdir(parents=True, exist_ok=True)

    def filesystem(self, table: str) -> pafs.FileSystem:
        """File system whose paths are relative to the table's folder."""
        return _filesystem(self.uri(table), tuple(sorted(self.options.items())))

    def read(self, table: str, path: str) -> bytes:
        """Raises FileNotFoundError."""
        if self.is_local:
            return (Path(self.uri(table)) / path).read_bytes()
        with _failures(f"{self.uri(table)}/{path}"):
            return bytes(obstore.get(self._objects(table), path).bytes())

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
            return (Path(self.uri(table)) / path).exists()
        try:
            with _failures(f"{self.uri(table)}/{path}"):
                obstore.head(self._objects(table), path)
        except FileNotFoundError:
            return False
        return True

    def put_if_absent(self, table: str, path: str, body: bytes) -> bool:
        """Creates a file, whole or not at all. False, and nothing changed, if there was one.

        On any exception the outcome is unknown: the file may be there, or appear later.
        """
        if self.is_local:
            return _link(Path(self.uri(table)), path, body)
        try:
            with _failures(f"{self.uri(table)}/{path}"):
                obstore.put(self._objects(table), path, body, mode="create")
        except FileExistsError:
            return False
        return True

    def sync(self, table: str, path: str) -> None:
        """Returns once a file that was written and closed is on stable storage."""
        if self.is_local:
            _sync(Path(self.uri(table)) / path)

    def require_conditional_put(self) -> None:
        """Raises NeedsOperator if the object store ignores If-None-Match, as some imitations of
        S3 do: of two rival commits the second would silently erase the first.
        """
        if self.is_local:
            return
        path = uuid.uuid4().hex
        self.put_if_absent("_probe", path, b"first")
        overwritten = self.put_if_absent("_probe", path, b"second")
        obstore.delete(self._objects("_probe"), path)
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

    def _objects(self, table: str) -> Any:
        return _objects(self.uri(table), tuple(sorted(self.options.items())))


def _completed(options: tuple[tuple[str, str], ...]) -> dict[str, str]:
    given = dict(options)
    names = {name.lower(): value for name, value in options}
    endpoint = names.get("aws_endpoint_url", names.get("aws_endpoint", names.get("endpoint", "")))
    if endpoint.startswith("http://") and not names.keys() & {"aws_allow_http", "allow_http"}:
        given["AWS_ALLOW_HTTP"] = "true"
    regions = {"aws_region", "region", "aws_default_region"}
    if endpoint and not names.keys() & regions and "AWS_REGION" not in os.environ:
        given["AWS_REGION"] = "us-east-1"
    return given


@cache
def _filesystem(uri: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    if "://" not in uri:
        return pafs.SubTreeFileSystem(uri, pafs.LocalFileSystem())
    completed = _completed(options)
    scheme, _, path = uri.partition("://")
    if scheme in {"s3", "s3a"}:
        return pafs.SubTreeFileSystem(path, _s3(completed))
    return pafs.PyFileSystem(DeltaStorageHandler(uri, completed))


def _s3(options: Mapping[str, str]) -> pafs.S3FileSystem:
    """Arrow's own client: delta-rs' keeps all other Python threads waiting while it reads."""
    given = {name.lower().removeprefix("aws_"): value for name, value in options.items()}
    arguments: dict[str, Any] = {
        "access_key": given.get("access_key_id"),
        "secret_key": given.get("secret_access_key"),
        "session_token": given.get("session_token", given.get("token")),
        "role_arn": given.get("role_arn"),
        "region": given.get("region", given.get("default_region")),
        "anonymous": given.get("skip_signature") == "true",
        "force_virtual_addressing": given.get("virtual_hosted_style_request") == "true",
    }
    if endpoint := given.get("endpoint_url", given.get("endpoint")):
        arguments["scheme"], _, arguments["endpoint_override"] = endpoint.partition("://")
    return pafs.S3FileSystem(**{k: v for k, v in arguments.items() if v})


@cache
def _objects(uri: str, options: tuple[tuple[str, str], ...]) -> Any:
    config: dict[str, Any] = {}
    connection: dict[str, Any] = {}
    for name, value in _completed(options).items():
        short = name.lower().removeprefix("aws_")
        if short in _CONNECTION:
            connection[short] = value
        elif not name.lower().startswith(_DELTA_ONLY):
            config[name] = value
    return from_url(uri, config=cast(Any, config), client_options=cast(Any, connection))


@contextlib.contextmanager
def _failures(uri: str) -> Iterator[None]:
    """Errors of the object store as those of the file system."""
    try:
        yield
    except AlreadyExistsError as err:
        raise FileExistsError(uri) from err
    except BaseError as err:
        raise OSError(f"{uri}: {err}") from err


def _link(folder: Path, path: str, body: bytes) -> bool:
    # A hard link refuses an existing name, which a rename does not; and the name must not appear
    # before the content is safe: after a loss of power an empty commit would break the table.
    target, temporary = folder / path, folder / f"{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as err:
            if err.errno not in _NO_LINKS:
                raise
            raise NeedsOperator(
                f"{folder}: this file system has no hard links, so commits could overwrite each"
                " other; set storage.root to a folder of another (ext4, XFS, APFS, ...)"
            ) from err
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    _sync(target.parent)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
