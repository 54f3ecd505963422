"""Tells whether only this machine reaches a host, and which host a `Host` header names. No I/O."""

from __future__ import annotations

import re
from ipaddress import ip_address

_HOST_HEADER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is one that only this machine reaches."""
    try:
        return host.lower() == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_in(header: str) -> str:
    """Return the host that a `Host` header names, in small letters and without its port; "" if the
    header is malformed. An IPv6 address is in brackets.
    """
    found = _HOST_HEADER.fullmatch(header)
    return found[1].lower() if found else ""
