"""Which server holds which keys. No I/O.

All keys of a partition have one hash tag, so they lie together. On one server that is the
partition's number. In Redis Cluster the tags come from a table, so that the partitions are spread
evenly over the slots, and with them over the servers.
"""

from __future__ import annotations

import functools
from binascii import crc_hqx
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

Place = int | str
"""Where a key lies: a partition's number, or the key itself, where it is of no partition."""

SLOTS = 16384
"""How many slots Redis Cluster spreads its keys over."""


class ServerList(NamedTuple):
    """The servers that a URL names. `one` is the server itself. Nodes of a `cluster` and sentinels
    only tell where the servers are. `urls` are those of single servers; `name` is that of a master
    that sentinels watch.
    """

    kind: Literal["one", "cluster", "sentinel"]
    urls: tuple[str, ...]
    name: str = ""


def server_list_of(url: str) -> ServerList:
    """Return what servers a URL names. The URL has been checked before (config/redis_url.py)."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return ServerList("one", (url,))
    login, at, hosts = parts.netloc.rpartition("@")
    path, name = ("", parts.path.strip("/")) if kind == "sentinel" else (parts.path, "")
    urls = tuple(
        urlunsplit((scheme, f"{login}{at}{host}", path, parts.query, ""))
        for host in hosts.split(",")
    )
    return ServerList("sentinel" if kind == "sentinel" else "cluster", urls, name)


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
