"""Tells requests that a web page may have made from those of programs. Pure, no I/O.

Any page in the developer's browser can make requests to this machine. The browser says where they
come from, in headers that a page cannot change: `Origin`, `Sec-Fetch-Site`, and `Host`. `Host`
names the page's own host, also where the page's DNS name leads to this machine (DNS rebinding).
"""

from __future__ import annotations

from multidict import MultiMapping

from hookmill.config.hosts import host_in, is_loopback

_TYPED = {"none", "same-origin"}
"""What `Sec-Fetch-Site` says of an address that the developer has typed or loaded again."""


def fault_of(headers: MultiMapping[str], own_host: str) -> str | None:
    """Return why a request is refused; None if no web page can have made it.

    `own_host` is the address that the emulator listens on.
    """
    # The emulator serves no pages, so that every origin is a foreign one.
    if "Origin" in headers:
        return "it has an Origin, so a web page has made it"
    if not _TYPED.issuperset(headers.getall("Sec-Fetch-Site", [])):
        return "its Sec-Fetch-Site says that a web page has made it"
    hosts = headers.getall("Host", [])
    host = host_in(hosts[0]) if len(hosts) == 1 else ""
    if not host or not (is_loopback(host) or host == own_host.lower()):
        return "its Host is not this machine: use 127.0.0.1 or localhost"
    return None
