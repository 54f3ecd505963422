"""Checks of single settings. Each returns the value in the form that the programs use, or raises
`ValueError` with what to write instead.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from hookmill.config.cpus import usable_cpus


def check_public_url(url: str) -> str:
    """Return the base URL that senders were given, without a slash at its end."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("give the base URL that senders were given, such as https://app.example")
    return url.rstrip("/")


def check_qstash_url(url: str) -> str:
    """Return the base URL of QStash's API, without a slash at its end.

    The error does not show the URL, because somebody may have put the token into it.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(" ?#@")
    if not usable or not is_plain:
        raise ValueError(
            "give the base URL of QStash's API, such as https://qstash-us-east-1.upstash.io; "
            "put the token into QSTASH_TOKEN"
        )
    return url.rstrip("/")


def check_key_part(word: str) -> str:
    """Return a word that can be part of a key in Redis."""
    if not word or not word.isascii() or any(c in word for c in "{}: \t\r\n\0"):
        raise ValueError("use ASCII letters, digits, - _ and . (it becomes part of Redis keys)")
    return word


def check_durability(level: str) -> str:
    """Return a durability level: `memory`, `aof` or `replicas:N`."""
    kind, _, count = level.partition(":")
    if kind == "replicas" and count.isascii() and count.isdecimal() and 1 <= int(count) <= 99:
        return f"replicas:{int(count)}"
    if level not in {"memory", "aof"}:
        raise ValueError("use memory, aof, or replicas:N with N from 1 to 99")
    return level


def check_host(host: str) -> str:
    """Return a name or an IP address to listen on."""
    if not host or not host.isascii() or not host.isprintable() or set(host) & set(" /[]"):
        raise ValueError("give a name or an IP address, such as 127.0.0.1")
    return host


def check_header_name(name: str) -> str:
    """Return the name of a header."""
    if not re.fullmatch("[A-Za-z0-9-]{1,100}", name):
        raise ValueError("give the name of a header, such as X-Forwarded-User")
    return name


def check_addresses(listed: object) -> tuple[str, ...]:
    """Return the IP addresses of a list, or of a text with commas between them."""
    parts = listed.split(",") if isinstance(listed, str) else listed
    if not isinstance(parts, list | tuple):
        raise ValueError("give IP addresses with commas between them")
    try:
        return tuple(str(ip_address(str(part).strip())) for part in parts)
    except ValueError:
        raise ValueError("give IP addresses with commas between them, such as 10.0.0.5") from None


def check_target(target: str) -> str:
    """Return where a function of the user is: MODULE:FUNCTION."""
    module, _, function = target.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise ValueError("name the function as MODULE:FUNCTION, such as tracing:start")
    return target


def check_processes(given: object) -> object:
    """Return a number of processes: `auto` means one for each CPU."""
    return usable_cpus() if given == "auto" else given
