"""Which requests a browser may send here: none under a foreign name, none from a foreign page.

A service that only this machine reaches asks for no credentials. But every page that its user's
browser shows can send requests there too.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:/?#@]*?)\.?)(?::\d*)?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class BrowserRules:
    """Host names beside localhost and this machine's, and origins beside the service's own.

    "*" among the hosts allows any name, among the origins any page.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    host_remedy: str = "add its name to query.allowed_hosts"
    origin_remedy: str = "add its origin to query.allowed_origins"
    """What somebody who is refused can do."""

    @classmethod
    def of(cls, hosts: Collection[str], origins: Collection[str]) -> BrowserRules:
        return cls(
            frozenset(host.lower() for host in hosts),
            frozenset(origin.lower().rstrip("/") for origin in origins),
        )

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this service.

        An address always does: a page can make a name of its own point here (DNS rebinding), but
        not an address. A request without the header comes from no browser.
        """
        name = _host_name(header)
        if not header or "*" in self.hosts or name in self.hosts or _is_address(name):
            return True
        return name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost")

    def allows_origin(self, method: str, host: str, origin: str, site: str) -> bool:
        """Whether the page that a request comes from may send it.

        `origin` and `site` are the headers Origin and Sec-Fetch-Site, empty where there is none. A
        page can read no answer of another origin; what it must not do is send a POST.
        """
        if method in _SAFE_METHODS or "*" in self.origins or origin.lower() in self.origins:
            return True
        if site:
            return site in {"same-origin", "none"}
        return not origin or urlsplit(origin).netloc.lower() == host.lower()


def _host_name(header: str) -> str:
    """The name or address in a Host header, in lower case; the header itself if it is malformed."""
    found = _HOST.fullmatch(header.strip().lower())
    return (found["name"] or found["address"] or header) if found else header


@functools.lru_cache(1_024)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
