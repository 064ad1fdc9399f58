"""Clients of object stores: one for the log, one for data. Their options have delta-rs' names.

A root such as s3://bucket/prefix names keys as they are, so `%20`, `#` or `?` in it mean
themselves; what is handed to a client that takes a URL is escaped here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast
from urllib.parse import quote

import obstore
import pyarrow.fs as pafs
from deltalake.fs import DeltaStorageHandler
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import from_url

from varve.model.errors import NeedsOperator

Options = tuple[tuple[str, str], ...]
"""Storage options, sorted by name."""

# For so long a request is tried again. Callers wait an outage out themselves, and say so; a request
# that was tried for longer than supervision.stalled_after_s would pass for a hang.
_RETRY = {"max_retries": 10, "retry_timeout": dt.timedelta(seconds=45)}
# A file up to so many bytes is sent by one request; parts pay beyond.
_ONE_PUT = 64 << 20
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


class ObjectStore:
    """Objects below a URL. Every method raises OSError if the service cannot be reached."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._client = _client(url, options)

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        with self._failures(path):
            return bytes(obstore.get(self._client, path).bytes())

    def exists(self, path: str) -> bool:
        try:
            with self._failures(path):
                obstore.head(self._client, path)
        except FileNotFoundError:
            return False
        return True

    def put(self, path: str, body: bytes, *, if_absent: bool = False) -> None:
        """One request unless the body is large. Raises FileExistsError if there is one that must
        not be replaced.
        """
        with self._failures(path):
            if if_absent:
                obstore.put(self._client, path, body, mode="create")
            else:
                # The client takes no other view of a buffer.
                whole = memoryview(body).cast("B")
                obstore.put(self._client, path, whole, use_multipart=len(whole) > _ONE_PUT)

    def delete(self, paths: Sequence[str]) -> None:
        """Objects that are not there are passed over."""
        with self._failures(paths[0] if paths else ""), contextlib.suppress(NotFoundError):
            obstore.delete(self._client, list(paths))

    def list(self, folder: str, after: str = "") -> Iterator[str]:
        """Names in a folder that sort after `after`, ascending."""
        prefix = f"{folder}/"
        offset = f"{prefix}{after}" if after else None
        with self._failures(folder):
            for batch in obstore.list(self._client, prefix, offset=offset, chunk_size=1_000):
                for found in batch:
                    yield found["path"].removeprefix(prefix)

    @contextlib.contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        """Errors of the object store as those of the file system."""
        try:
            yield
        except AlreadyExistsError as err:
            raise FileExistsError(f"{self._url}/{path}") from err
        except BaseError as err:
            raise OSError(f"{self._url}/{path}: {err}") from err


@cache
def data_filesystem(url: str, options: Options) -> pafs.FileSystem:
    """Data files below a URL, by paths relative to it."""
    completed = _completed(options)
    scheme, _, path = url.partition("://")
    if scheme in {"s3", "s3a"}:
        return pafs.SubTreeFileSystem(path, _s3(completed))
    return pafs.PyFileSystem(DeltaStorageHandler(_escaped(url), completed))


def _completed(options: Options) -> dict[str, str]:
    """The options, completed by what follows from them: plain http and a region for an endpoint of
    one's own.
    """
    given = dict(options)
    names = {name.lower(): value for name, value in options}
    endpoint = names.get("aws_endpoint_url", names.get("aws_endpoint", names.get("endpoint", "")))
    if endpoint.startswith("http://") and not names.keys() & {"aws_allow_http", "allow_http"}:
        given["AWS_ALLOW_HTTP"] = "true"
    regions = {"aws_region", "region", "aws_default_region"}
    if endpoint and not names.keys() & regions and "AWS_REGION" not in os.environ:
        given["AWS_REGION"] = "us-east-1"
    return given


def _escaped(url: str) -> str:
    scheme, _, path = url.partition("://")
    return f"{scheme}://{quote(path)}"


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
def _client(url: str, options: Options) -> Any:
    config: dict[str, Any] = {}
    connection: dict[str, Any] = {}
    for name, value in _completed(options).items():
        short = name.lower().removeprefix("aws_")
        if short in _CONNECTION:
            connection[short] = value
        elif not name.lower().startswith(_DELTA_ONLY):
            config[name] = value
    try:
        return from_url(
            _escaped(url),
            config=cast(Any, config),
            client_options=cast(Any, connection),
            retry_config=cast(Any, _RETRY),
        )
    except (BaseError, ValueError) as err:
        why = str(err).splitlines()[0]
        raise NeedsOperator(f"{url}: {why}; correct storage.root or storage.options") from err
