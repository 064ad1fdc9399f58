"""Addresses that no message may go to: those at which clouds hand out credentials, and those that
are outside of the networks that are allowed, if any are named.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_FORBIDDEN = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, GCP and others
        "100.100.100.200/32",  # metadata of Alibaba
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # metadata of Oracle
        "224.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fd00:ec2::/32",  # metadata of AWS over IPv6
        "ff00::/8",
    )
)


class ForbiddenAddress(httpcore.ConnectError):
    """A host's address is one that is never connected to."""


def is_forbidden(address: str) -> bool:
    """Whether an IP address may not be connected to, also as IPv4 within IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is not None and is_forbidden(str(inner)):
            return True
    return any(ip in network for network in _FORBIDDEN if network.version == ip.version)


async def allowed_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, as it resolves now. Raises ForbiddenAddress, OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if not addresses:
        raise ForbiddenAddress(f"{host} has no address")
    for address in addresses:
        if is_forbidden(address):
            raise ForbiddenAddress(
                f"the address of {host} is {address}, link-local or a cloud's metadata service:"
                " nothing is sent there"
            )
    return addresses


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the very address that was looked at, so that a name cannot change between.

    networks: the only ones that addresses may be in, if there are any; option: what names them.
    """

    def __init__(self, networks: Networks = (), option: str = "") -> None:
        self._networks, self._option = networks, option
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self.addresses(host, port)
        except OSError as err:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {err}") from err
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as err:
                failure = err
        raise failure or httpcore.ConnectError(f"{host} cannot be reached")

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them allowed. Raises ForbiddenAddress, OSError."""
        found = await allowed_addresses(host, port)
        for address in found if self._networks else ():
            ip = ipaddress.ip_address(address.partition("%")[0])
            if not any(ip in one for one in self._networks if one.version == ip.version):
                raise ForbiddenAddress(
                    f"the address of {host} is {address}, in none of {self._option}"
                )
        return found

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)
