"""Which server holds which keys. No I/O.

All keys of a partition have one hash tag, so they lie together. On one server that is the
partition's number. In Redis Cluster the tags come from a table, so that the partitions are spread
evenly over the slots, and with them over the servers.
"""

from __future__ import annotations

import functools
import re
from binascii import crc_hqx
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

Place = int | str
"""Where a key lies: a partition's number, or the key itself, where it is of no partition."""

SENTINEL_PORT = "26379"
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
"""What a URL gives behind its ?, to log in to sentinels."""

SLOTS = 16384
"""How many slots Redis Cluster spreads its keys over."""


class ServerList(NamedTuple):
    """The servers that a URL names. `one` is the server itself. The nodes of a `cluster` and
    sentinels only tell where the servers are. `urls` lead to those that are named; `server` is the
    URL of a server, but for its address. `name` is that of a master that sentinels watch.
    """

    kind: Literal["one", "cluster", "sentinel"]
    urls: tuple[str, ...]
    server: str
    name: str = ""


def server_list_of(url: str) -> ServerList:
    """Return what servers a URL names. The URL has been checked before (config/redis_url.py)."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return ServerList("one", (url,), url)
    login, at, hosts = parts.netloc.rpartition("@")
    before, query, name, path = f"{login}{at}", parts.query, "", parts.path
    if kind == "sentinel":
        _, name, *rest = (*path.split("/"), "")
        path = "/".join(("", *filter(None, rest)))
        words = parse_qsl(query)
        query = urlencode([word for word in words if word[0] not in SENTINEL_OPTIONS])
        before = _login_of(dict(words))
    urls = tuple(
        urlunsplit((scheme, f"{before}{host}", "" if name else path, query, ""))
        for host in _with_ports(hosts, SENTINEL_PORT if kind == "sentinel" else "")
    )
    server = urlunsplit((scheme, f"{login}{at}{hosts.split(',')[0]}", path, query, ""))
    return ServerList("sentinel" if kind == "sentinel" else "cluster", urls, server, unquote(name))


def _with_ports(hosts: str, port: str) -> list[str]:
    """Split hosts, and give those a port that have none."""
    return [
        host if not port or re.search(r":[0-9]*$", host.rpartition("]")[2]) else f"{host}:{port}"
        for host in hosts.split(",")
    ]


def _login_of(options: Mapping[str, str]) -> str:
    """Return the login of a URL of a sentinel. The login before the hosts is for the servers."""
    user, password = (quote(options.get(name, ""), safe="") for name in SENTINEL_OPTIONS)
    return f"{user}:{password}@" if password else ""


def slot_of(key: str) -> int:
    """Return the slot of a key in Redis Cluster."""
    before, _, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    hashed = tag if tag and end and before != key else key
    return crc_hqx(hashed.encode(), 0) % SLOTS


@functools.cache
def tag_of(partition: int, base: int) -> str:
    """Return the hash tag of a partition in Redis Cluster. `base` is the number of partitions that
    the stream was made with.

    Each of the first `base` partitions has its slot in the middle of an even share of all slots.
    Those that are added later lie between them. A tag never changes.
    """
    share = SLOTS / base
    added = partition // base
    middle = (partition % base + _between(added + 1)) * share
    reach = share / 8 / 2 ** added.bit_length()
    number = 0
    while abs(slot_of(str(number)) - middle) > reach:
        number += 1
    return str(number)


def _between(number: int) -> float:
    """Return a number between 0 and 1, each as far as possible from those before: 1/2, 1/4, 3/4,
    1/8 and so on.
    """
    found, step = 0.0, 0.5
    while number:
        found += step * (number & 1)
        number, step = number >> 1, step / 2
    return found
