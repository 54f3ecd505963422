"""Decides whether an address is public, and whether a URL that others chose is used. No I/O.

A guarded sender connects only to public addresses, so that a subscriber's URL cannot reach the
sender's own network. The lists are our own, because `ipaddress.is_global` differs between releases
of Python and calls multicast global.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

_NOT_PUBLIC_V4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # a provider's own network
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's service for its virtual machines
        "169.254.0.0/16",  # link-local, with the metadata service of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols, and the metadata service of Oracle's cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, which nobody runs any more
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]

_PUBLIC_V6 = IPv6Network("2000::/3")
"""All public IPv6 addresses that have been given out. Loopback, private, link-local and multicast
addresses are outside.
"""

_NOT_PUBLIC_V6 = [
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: it contains an IPv4 address, which a relay would connect to
        "3fff::/20",  # documentation
    )
]

_NAT64 = IPv6Network("64:ff9b::/96")
"""A gateway connects to the IPv4 address in the last 32 bits."""

_LAST_IS_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""A host whose last label is a number. Resolvers read it as an IPv4 address."""

_WELL_KNOWN_PORTS = {80, 443}


def is_public(text: str) -> bool:
    """Return whether an address, as a resolver writes it, is public. Any other text is not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = _inner_v4(address)
        if inner is None:
            return address in _PUBLIC_V6 and not any(address in one for one in _NOT_PUBLIC_V6)
        address = inner
    return not any(address in one for one in _NOT_PUBLIC_V4)


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a connection to this IPv6 address reaches; None: it is IPv6."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def fault_of_public_url(url: str) -> str:
    """Return why a guarded sender does not request a usable URL; "" if it may be tried.

    The addresses of a host name are judged later, when it is connected to.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        return "it has a username"
    if parts.port is not None and parts.port < 1024 and parts.port not in _WELL_KNOWN_PORTS:
        return "its port belongs to another service: use 80, 443, or one from 1024 on"
    if ":" in host or _LAST_IS_NUMBER.fullmatch(host):
        # aiohttp, the resolver and the operating system read odd spellings differently, so an IPv4
        # address is taken only as four decimal numbers, which is what `ip_address` takes.
        return "" if is_public(host) else NOT_PUBLIC
    return ""


NOT_PUBLIC = "it leads to no public address"
"""It does not name the address, because the text may be shown to the one who chose the URL."""
