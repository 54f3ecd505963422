"""Checks URLs and names, and takes URLs apart. No I/O.

`option` is the name of the option that is checked. A value that is not usable is a `ValueError`
that names it. A URL is never rewritten, because the subscriber may verify a signature over it.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

_URL = re.compile(r"https?://[!-\[\]-~]+")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def check_url(option: str, url: str) -> str:
    """Return a URL that can be requested exactly as it is written."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ValueError(
            f"{option}: {shown(url)!r} is not a URL that can be sent as it is written: start it "
            "with http:// or https://, and write spaces, backslashes, control characters and "
            "everything beyond ASCII as %XX (a host name in punycode)"
        )
    try:
        parts = urlsplit(url)
        usable = _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{option}: {shown(url)!r} has no valid host and port")
    return url


def _is_host(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return ":" in host or all(0 < len(label) <= 63 for label in labels)


def check_destination(option: str, url: str) -> str:
    """Return a URL that can be part of the path of a request to QStash.

    Its query becomes the query of that request, where QStash looks for options and for a token.
    """
    # A fragment does not end a request's path, so a query may follow inside it.
    query = check_url(option, url).partition("?")[2]
    for name, _ in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        if name.strip().lower().startswith(("upstash-", "qstash_token")):
            raise ValueError(f"{option}: QStash would read {name[:50]!r} in its query as an option")
    return url


def check_name(option: str, name: str) -> str:
    """Return the name of a queue, URL group or schedule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{option}: use ASCII letters, digits, - _ and . (not first), got {name!r}"
        )
    return name


def base_of(url: str) -> str:
    """Return the scheme and host of a URL, exactly as they are written."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + re.split("[/?#]", rest, maxsplit=1)[0]


def target_of(url: str) -> str:
    """Return the path and query of a URL, exactly as they are written."""
    rest = url.partition("#")[0].partition("://")[2]
    start = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    target = rest[start:]
    return target if target.startswith("/") else f"/{target}"


def shown(url: object) -> str:
    """Return a URL for errors and logs, without the parts that may contain a secret."""
    text = str(url).partition("#")[0]
    before, mark, query = text.partition("?")
    scheme, separator, rest = before.partition("://")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    return f"{scheme}{separator}{host}{slash}{path}"[:200] + ("?..." if mark and query else "")
