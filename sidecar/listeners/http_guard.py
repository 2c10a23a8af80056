"""Which HTTP requests are refused because of where they come from: web pages of other sites. Knows no key and no page."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web


def addressed_to_us(request: web.Request, allowed_hosts: Collection[str] = ()) -> bool:
    """Whether its Host is a loopback name, the very address the connection came in on, or one of `allowed_hosts`.

    SECURITY: a web page that makes its own name resolve to this machine still sends that name.
    """
    hosts = request.headers.getall("Host", [])
    host = host_of(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return False
    if host == "localhost" or host in allowed_hosts:
        return True
    address = _address(host)
    if address is None or address.is_loopback:
        return address is not None
    return address == address_here(request)


def address_here(request: web.Request) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of this machine at which the request came in; None where there is none, e.g. on a unix socket."""
    here = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return _address(str(here[0])) if isinstance(here, tuple) else None


def from_another_site(request: web.Request, allowed_origins: Collection[str] = ()) -> bool:
    """Whether a browser says that a page of another origin asks; other programs send neither header."""
    origins = request.headers.getall("Origin", [])
    if len(origins) == 1 and origins[0] in allowed_origins:
        return False
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    return bool(origins) and origins != [f"{request.scheme}://{request.headers.get('Host', '')}"]


def host_of(text: str) -> str | None:
    """The name or address in a Host header, lower case and without port; None where it is none or nonsense."""
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port  # raises where the port is no number
        return None if "@" in parts.netloc else parts.hostname
    except ValueError:
        return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address `text` is, an IPv4 address in IPv6 clothes as the IPv4 address; None for a name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
