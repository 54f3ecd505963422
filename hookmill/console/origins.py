"""Tells requests that another site may have made from those of the console's own pages. No I/O.

Any page in a person's browser can make requests to the console. The browser says where they come
from, in headers that a page cannot change: `Host`, `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from multidict import MultiMapping

from hookmill.config.hosts import host_in, is_loopback

_OWN = {"none", "same-origin"}
"""What `Sec-Fetch-Site` says of the console's own pages, and of what a person has typed."""


def host_fault(headers: MultiMapping[str], listens_on: str, url: str | None) -> str | None:
    """Return why the `Host` of a request is refused; None if it is right.

    A name that somebody has made to lead to this machine (DNS rebinding) gives a foreign page the
    origin of the console. So on a loopback address only names of this machine count, and that of
    the `url` at which browsers reach it.
    """
    hosts = headers.getall("Host", [])
    host = host_in(hosts[0]).removesuffix(".") if len(hosts) == 1 else ""
    if not host:
        return "its Host is missing or malformed"
    if is_loopback(host) or (url and host == (urlsplit(url).hostname or "")):
        return None
    if is_loopback(listens_on):
        return (
            "its Host is not this machine: use 127.0.0.1 or localhost, or set HOOKMILL_CONSOLE_URL"
        )
    return "its Host is not that of HOOKMILL_CONSOLE_URL" if url else None


def origin_fault(headers: MultiMapping[str], url: str | None) -> str | None:
    """Return why a request that changes something is refused; None if no other site has made it.

    A browser that sends neither header makes no such request for another site; a program does.
    """
    sites = headers.getall("Sec-Fetch-Site", [])
    if sites:
        return (
            None if _OWN.issuperset(sites) else "its Sec-Fetch-Site says that another site sent it"
        )
    origins = headers.getall("Origin", [])
    own = {_place(f"//{host}") for host in headers.getall("Host", [])}
    if url:
        own.add(_place(url))
    if all(_place(origin) in own - {""} for origin in origins):
        return None
    return "its Origin is another site"


def _place(url: str) -> str:
    """Return the host and port of a URL; "" if there is none, as in the Origin `null`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in {"", "http", "https"} else ""
