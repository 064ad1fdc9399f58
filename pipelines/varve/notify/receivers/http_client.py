"""HTTP clients as `http_config` describes them, and what their answers mean."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
import msgspec

from varve import __version__
from varve.notify.config.fields import NO_SECRET, is_set, read_secret
from varve.notify.config.http_client import HttpConfig, OAuth2, ProxyFields, TlsConfig
from varve.notify.driver import Result
from varve.notify.groups import Outcome, outcome_of
from varve.notify.receivers.addresses import ForbiddenAddress, GuardedBackend
from varve.notify.receivers.tls import tls_context

USER_AGENT = f"varve/{__version__}"

_REDIRECTS = 5
_LONGEST_DETAIL = 300
_LONGEST_BODY = 64 << 10
# A token is fetched anew so long before it ends.
_TOKEN_MARGIN_S = 30.0


class HttpClient:
    """Sends requests as one `http_config` says. Secrets in files are read anew for each."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        backend: GuardedBackend | None = None,
        longest_body: int = _LONGEST_BODY,
        most_connections: int = 100,
    ) -> None:
        """backend: which addresses may be connected to. longest_body: bytes of an answer that are
        read; of a longer one, some more.
        """
        self._config = config
        self._longest_body = longest_body
        self._transport = _Transport(
            config, config.tls_config, backend, longest_body, most_connections
        )
        self._client = httpx.AsyncClient(
            transport=self._transport,
            timeout=None,  # noqa: S113 - each attempt has its own, over all of it
            headers={"user-agent": USER_AGENT},
            trust_env=False,
        )
        self._token = _Token(config.oauth2, backend) if config.oauth2 else None

    async def close(self) -> None:
        await self._client.aclose()
        if self._token:
            await self._token.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer to a request. Redirects are followed within a host only.

        Raises httpx.HTTPError, OSError, ssl.SSLError.
        """
        given = dict(headers or {})
        if json is not None:
            content = msgspec.json.encode(json)
            given = {"Content-Type": "application/json"} | given
        for _ in range(_REDIRECTS + 1):
            request = self._client.build_request(
                method,
                url,
                content=content,
                data=dict(form) if form is not None else None,
                headers=given,
                extensions=self._extensions(),
            )
            await self._log_in(request)
            # The cookies, hooks and redirects of the client are not wanted.
            response = await self._transport.handle_async_request(request)
            response.request = request
            if not (response.is_redirect and self._config.follow_redirects):
                return response
            url = _redirect(url, response)
        raise httpx.TooManyRedirects(f"over {_REDIRECTS} redirects")

    async def get(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """The answer to a GET. Redirects are followed to where the backend may connect to; another
        host gets no login. How the body is encoded is in extensions["content_encoding"].

        Raises httpx.HTTPError, OSError, ssl.SSLError.
        """
        first = httpx.URL(url)
        for _ in range(_REDIRECTS + 1):
            request = self._client.build_request(
                "GET", url, headers=dict(headers), extensions=self._extensions()
            )
            if request.url.host == first.host:
                await self._log_in(request)
            response = await self._client.send(request)
            if not (response.is_redirect and self._config.follow_redirects):
                return response
            url = str(response.request.url.join(response.headers.get("location", "")))
        raise httpx.TooManyRedirects(f"over {_REDIRECTS} redirects")

    async def lines(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """The lines of the answer to a GET, as they come; no redirect is followed. First comes the
        status, as text.

        Raises httpx.HTTPError, OSError, ssl.SSLError, also when the connection breaks.
        """
        request = self._client.build_request(
            "GET", url, headers=dict(headers), extensions=self._extensions() | {"streams": True}
        )
        await self._log_in(request)
        response = await self._client.send(request, stream=True)
        try:
            yield str(response.status_code).encode()
            begun = bytearray()
            async for part in response.aiter_raw():
                begun += part
                if len(begun) > self._longest_body:
                    raise httpx.TransportError(f"a line is over {self._longest_body:,} bytes")
                *whole, rest = begun.split(b"\n")
                begun = bytearray(rest)
                for line in whole:
                    yield bytes(line)
        finally:
            await response.aclose()

    async def _log_in(self, request: httpx.Request) -> None:
        """Adds the login and the headers of the configuration."""
        for name, value in (await self._authorization()).items():
            request.headers[name] = value
        for name, extra in self._config.http_headers.items():
            values = [*extra.values, *(s.get_secret_value() for s in extra.secrets)]
            values += [read_secret(NO_SECRET, file) for file in extra.files]
            request.headers[name] = ", ".join(values)

    def _extensions(self) -> dict[str, Any]:
        name = self._config.tls_config.server_name
        return {"sni_hostname": name} if name else {}

    async def _authorization(self) -> dict[str, str]:
        config = self._config
        if config.basic_auth is not None:
            auth = config.basic_auth
            user = (
                read_secret(NO_SECRET, auth.username_file) if auth.username_file else auth.username
            )
            password = read_secret(auth.password, auth.password_file)
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            return {"authorization": f"Basic {pair}"}
        if config.authorization is not None:
            given = config.authorization
            credentials = read_secret(given.credentials, given.credentials_file)
            return {"authorization": f"{given.type} {credentials}"}
        if is_set(config.bearer_token) or config.bearer_token_file:
            token = read_secret(config.bearer_token, config.bearer_token_file)
            return {"authorization": f"Bearer {token}"}
        if self._token is not None:
            return {"authorization": f"Bearer {await self._token.get()}"}
        return {}


def result_of(response: httpx.Response) -> Result:
    """What an answer means, by its status."""
    outcome = outcome_of(response.status_code)
    if outcome is Outcome.TAKEN:
        return Result(outcome)
    return Result(outcome, f"status {response.status_code}: {excerpt(response)}")


def excerpt(response: httpx.Response) -> str:
    """The beginning of an answer, on one line."""
    text = " ".join(response.content[:_LONGEST_DETAIL].decode(errors="replace").split())
    return text or "no body"


def failure_of(error: Exception) -> Result:
    """What an error of a request means. Its text has a host at most, never an address with keys."""
    if isinstance(error, _Moved | _NotAllowed):
        return Result(Outcome.REFUSED, str(error))
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Result(Outcome.REFUSED, "the address is no URL")
    if isinstance(error, OSError) and error.filename:
        return Result(Outcome.FAILED, f"{error.filename}: {error.strerror}")
    return Result(Outcome.FAILED, f"{type(error).__name__}: {error}"[:_LONGEST_DETAIL])


class _Moved(httpx.HTTPError):
    """A redirect that is not followed."""


class _NotAllowed(httpx.HTTPError):
    """An address that nothing is sent to."""


def _redirect(url: str, response: httpx.Response) -> str:
    """Where a request is sent again. Raises _Moved if that is another host, or no POST."""
    if response.status_code not in {307, 308}:
        raise _Moved(
            f"status {response.status_code}: the address has moved; correct it, since a message is"
            " sent again by 307 and 308 only"
        )
    old = urlsplit(url)
    target = response.request.url.join(response.headers.get("location", ""))
    upgraded = (old.scheme, target.scheme) == ("http", "https")
    if target.host != response.request.url.host or not (target.scheme == old.scheme or upgraded):
        raise _Moved(f"a redirect to another host, {target.host}, is not followed")
    if not upgraded and target.port != response.request.url.port:
        raise _Moved(f"a redirect to another port of {target.host} is not followed")
    return str(target)


class _Token:
    """An access token by OAuth 2's client credentials, kept until shortly before it ends."""

    def __init__(self, config: OAuth2, backend: GuardedBackend | None) -> None:
        self._config = config
        self._client = httpx.AsyncClient(
            transport=_Transport(config, config.tls_config, backend),
            trust_env=False,
            headers={"user-agent": USER_AGENT},
        )
        self._lock = asyncio.Lock()
        self._value = ""
        self._until_s = 0.0

    async def get(self) -> str:
        async with self._lock:
            if time.monotonic() >= self._until_s:
                await self._fetch()
            return self._value

    async def close(self) -> None:
        await self._client.aclose()

    async def _fetch(self) -> None:
        config = self._config
        secret = read_secret(config.client_secret, config.client_secret_file)
        form = {"grant_type": "client_credentials", **config.endpoint_params}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        response = await self._client.post(
            config.token_url, data=form, auth=httpx.BasicAuth(config.client_id, secret)
        )
        if not response.is_success:
            raise httpx.HTTPError(f"no access token: status {response.status_code}")
        answer = response.json()
        if not isinstance(answer, dict) or "access_token" not in answer:
            raise httpx.HTTPError("no access token in the answer of token_url")
        lasts_s = float(answer.get("expires_in") or 3600)
        self._value = str(answer["access_token"])
        self._until_s = time.monotonic() + max(lasts_s - _TOKEN_MARGIN_S, 1.0)


class _Transport(httpx.AsyncBaseTransport):
    """httpcore's pools: direct ones, whose addresses are guarded, and by proxy. Each is made when
    it is first used, since TLS takes time to set up.
    """

    def __init__(
        self,
        config: ProxyFields,
        tls: TlsConfig,
        backend: GuardedBackend | None = None,
        longest_body: int = _LONGEST_BODY,
        most_connections: int = 100,
    ) -> None:
        self._tls = tls
        self._backend = backend
        self._longest_body = longest_body
        self._most_connections = most_connections
        self._proxies = _proxy_addresses(config)
        self._connect_headers = [
            (name.encode(), secret.get_secret_value().encode())
            for name, secrets in config.proxy_connect_header.items()
            for secret in secrets
        ]
        no_proxy = config.no_proxy
        if config.proxy_from_environment:
            no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        self._no_proxy = [item.strip() for item in no_proxy.split(",") if item.strip()]
        self._pools: dict[tuple[str, bool], httpcore.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        pool = self._pool(url.scheme, proxied=not _excluded(url.host, url.port, self._no_proxy))
        core = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await pool.handle_async_request(core)
            if request.extensions.get("streams"):
                return httpx.Response(
                    answer.status, headers=answer.headers, stream=_Streamed(answer)
                )
            body = bytearray()
            async for part in _parts(answer):
                body += part
                if len(body) > self._longest_body:
                    break
            await answer.aclose()
        except ForbiddenAddress as err:
            raise _NotAllowed(str(err)) from err
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as err:
            raise httpx.TransportError(str(err) or type(err).__name__) from err
        except (httpcore.ProxyError, httpcore.UnsupportedProtocol, ssl.SSLError) as err:
            raise httpx.TransportError(str(err) or type(err).__name__) from err
        return httpx.Response(
            answer.status,
            headers=[h for h in answer.headers if h[0].lower() != b"content-encoding"],
            content=bytes(body),
            extensions={
                "content_encoding": _header(answer, b"content-encoding"),
                "reason_phrase": answer.extensions.get("reason_phrase", b""),
            },
        )

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, scheme: str, *, proxied: bool) -> httpcore.AsyncConnectionPool:
        address = self._proxies.get(scheme) if proxied else None
        key = scheme, address is not None
        if key not in self._pools:
            uses_tls = "https" in {scheme, urlsplit(address or "").scheme}
            options: dict[str, Any] = {
                "ssl_context": tls_context(self._tls) if uses_tls else None,
                "network_backend": self._backend or GuardedBackend(),
                "max_connections": self._most_connections,
                "keepalive_expiry": 60.0,
            }
            if address is None:
                self._pools[key] = httpcore.AsyncConnectionPool(**options)
            else:
                self._pools[key] = _proxy_pool(address, self._connect_headers, options)
        return self._pools[key]


class _Streamed(httpx.AsyncByteStream):
    """A body that is read as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._answer.aiter_stream():
                yield part
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as err:
            raise httpx.TransportError(str(err) or type(err).__name__) from err

    async def aclose(self) -> None:
        await self._answer.aclose()


def _header(answer: httpcore.Response, wanted: bytes) -> str:
    return next(
        (v.decode("latin-1").strip().lower() for n, v in answer.headers if n.lower() == wanted), ""
    )


async def _parts(answer: httpcore.Response) -> AsyncIterator[bytes]:
    async for part in answer.aiter_stream():
        yield part


def _proxy_addresses(config: ProxyFields) -> dict[str, str]:
    if config.proxy_url:
        return dict.fromkeys(("http", "https"), config.proxy_url)
    if not config.proxy_from_environment:
        return {}
    found = {}
    for scheme in ("http", "https"):
        name = f"{scheme}_proxy"
        if address := os.environ.get(name.upper()) or os.environ.get(name):
            found[scheme] = address
    return found


def _proxy_pool(
    address: str, headers: list[tuple[bytes, bytes]], options: dict[str, Any]
) -> httpcore.AsyncHTTPProxy:
    url = httpx.URL(address)
    auth = (url.username.encode(), url.password.encode()) if url.username else None
    bare = url.copy_with(username=None, password=None)
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(str(bare)), proxy_auth=auth, proxy_headers=headers, **options
    )


def _excluded(host: str, port: int | None, no_proxy: list[str]) -> bool:
    """Whether a host is one that is reached without the proxy."""
    for item in no_proxy:
        name, _, wanted = item.partition(":") if item.count(":") == 1 else (item, "", "")
        if wanted and str(port or "") != wanted:
            continue
        if name == "*" or name.lstrip(".") == host:
            return True
        if host.endswith("." + name.lstrip(".")):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False
