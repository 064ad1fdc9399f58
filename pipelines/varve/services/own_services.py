"""HTTP to services of ours: to this machine and to those of a home through no proxy."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import ssl
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from varve.services.home import Home
from varve.settings import Settings

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Goes through no proxy, whatever http_proxy and https_proxy say."""


def opener_to(url: str, token: str = "") -> urllib.request.OpenerDirector:
    """What opens an address that a person has given: through no proxy if it is one of this machine,
    since that would take it for its own; else as the environment says. It sends the token, if any.
    """
    host = urllib.parse.urlsplit(url).hostname or ""
    proxies = [urllib.request.ProxyHandler({})] if _is_loopback(host) else []
    return _opener(proxies, token)


def opener_of_home(settings: Settings) -> urllib.request.OpenerDirector:
    """What opens the query service of this home: with the token that the service has left there,
    and no other certificate than the one that the settings name.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    query = settings.query
    if query.cert_file:
        # It is made for the service's name, which need not be the address it is asked at.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with contextlib.suppress(OSError):  # without it nothing is believed
            context.load_verify_locations(query.cert_file)
            if query.client_ca_file:
                context.load_cert_chain(query.cert_file, query.key_file)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    token = ""
    with contextlib.suppress(OSError):
        token = _token_file(settings).read_text()
    return _opener(handlers, token)


def leave_token(settings: Settings) -> str:
    """Makes a token for who may read this home, which commands and the collector send. Replaces
    that of an earlier start.
    """
    token = secrets.token_urlsafe(32)
    path = _token_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    return token


def _token_file(settings: Settings) -> Path:
    return Home.at(settings.home).run / "query.token"


def _opener(
    handlers: Sequence[urllib.request.BaseHandler], token: str
) -> urllib.request.OpenerDirector:
    if not token:
        return urllib.request.build_opener(*handlers)
    opener = urllib.request.build_opener(*handlers, _NoRedirects())
    opener.addheaders = [*opener.addheaders, ("Authorization", f"Bearer {token}")]
    return opener


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Sends nobody a token that was meant for another."""

    def redirect_request(self, *_: object) -> None:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
