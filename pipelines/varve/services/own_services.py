"""HTTP to services of ours: to this machine and to those of a home through no proxy."""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Goes through no proxy, whatever http_proxy and https_proxy say."""


def opener_to(url: str) -> urllib.request.OpenerDirector:
    """What opens an address that a person has given: DIRECT if it is one of this machine, since a
    proxy would take it for its own; else what the environment says.
    """
    host = urllib.parse.urlsplit(url).hostname or ""
    return DIRECT if _is_loopback(host) else urllib.request.build_opener()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
