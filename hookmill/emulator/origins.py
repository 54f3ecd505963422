"""Tells requests that a web page may have made from those of programs. Pure, no I/O.

Any page in the developer's browser can make requests to this machine. The browser says where they
come from, in headers that a page cannot change: `Origin`, `Sec-Fetch-Site`, and `Host`. The last
one is the page's own host if its DNS name has come to mean this machine (DNS rebinding).
"""

from __future__ import annotations

import re

from multidict import MultiMapping

from hookmill.config.setting_values import is_loopback

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
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
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None or not (is_loopback(found[1]) or found[1].lower() == own_host.lower()):
        return "its Host is not this machine: use 127.0.0.1 or localhost"
    return None
