"""Which node of a Redis Cluster serves a slot: asked of any node, and again where that is in doubt.

Each slot is doubted by itself, so a partition whose node is well never waits for another's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hookmill.errors import StreamUnavailableError
from hookmill.stream.first_answer import first_answer
from hookmill.stream.moving import Address
from hookmill.stream.topology import SLOTS

RENEW_PAUSE = 0.2
"""The least seconds between two times that nodes are asked."""


class ClusterMap:
    """Who serves which slot. `urls` lead to nodes that are asked first. `url_file` is as for
    `Connections`. Any thread may read what is known; only the event loop changes it.
    """

    def __init__(self, urls: Iterable[str], url_file: Path | None = None) -> None:
        self._urls = tuple(urls)
        self._url_file = url_file
        self._served: dict[int, Address] = {}
        self._nodes: list[Address] = []
        self._doubtful = set(range(SLOTS))
        self._renewing = asyncio.Lock()
        self._renewed_at = -RENEW_PAUSE

    def known(self, slot: int) -> Address | None:
        """Return who serves a slot, as far as known."""
        return self._served.get(slot)

    def masters(self) -> set[Address]:
        """Return who serves any slot, as far as known."""
        return set(self._served.values())

    async def find(self, slot: int) -> Address:
        """Return who serves a slot now. Raises `StreamUnavailableError`."""
        if slot in self._doubtful:
            async with self._renewing:
                if slot in self._doubtful:  # nobody else has asked meanwhile
                    await self._renew()
        if (found := self._served.get(slot)) is None:
            self._doubtful.add(slot)
            raise StreamUnavailableError(f"no node of the cluster serves slot {slot}")
        return found

    def doubt(self, slot: int) -> None:
        """Note that another node may serve a slot by now."""
        self._doubtful.add(slot)

    def moved(self, slot: int, address: Address) -> None:
        """Note who serves a slot, as a node has told."""
        self._served[slot] = address
        self._doubtful.discard(slot)

    async def _renew(self) -> None:
        pause = self._renewed_at + RENEW_PAUSE - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        doubted = frozenset(self._doubtful)
        try:
            asked = await first_answer(self._nodes_to_ask(), ("CLUSTER", "SLOTS"), self._url_file)
        finally:
            self._renewed_at = time.monotonic()
        served: dict[int, Address] = {}
        nodes: set[Address] = set()
        host = urlsplit(asked.url).hostname or ""
        for start, end, *servers in asked.reply:
            addresses = [_address_in(server, host) for server in servers]
            served.update(dict.fromkeys(range(start, end + 1), addresses[0]))
            nodes.update(addresses)
        self._served = served
        self._nodes = sorted(nodes)
        self._doubtful -= doubted

    def _nodes_to_ask(self) -> list[str]:
        """Return the URLs of all nodes, the known ones first."""
        urls = [_with_address(self._urls[0], node) for node in self._nodes]
        random.shuffle(urls)
        return [*urls, *(url for url in self._urls if url not in urls)]


class SlotAddress:
    """Where the keys of one slot are."""

    def __init__(self, cluster: ClusterMap, slot: int) -> None:
        self._cluster = cluster
        self._slot = slot

    @property
    def known(self) -> Address | None:
        """Where they were when that was last asked for. Any thread may read it."""
        return self._cluster.known(self._slot)

    async def find(self) -> Address:
        """Return where they are now. Raises `StreamUnavailableError`."""
        return await self._cluster.find(self._slot)

    def doubt(self) -> None:
        """Note that they may be elsewhere."""
        self._cluster.doubt(self._slot)

    def moved(self, address: Address) -> None:
        """Note where they are, as a node has told."""
        self._cluster.moved(self._slot, address)


def _address_in(server: Any, asked_host: str) -> Address:
    """Read a node of CLUSTER SLOTS. One that does not know its own name is that which was asked."""
    host = (server[0] or b"").decode()
    return Address(host if host not in {"", "?"} else asked_host, int(server[1]))


def _with_address(url: str, address: Address) -> str:
    """Return the URL of another node: login, TLS and options are the same."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    host = f"[{address.host}]" if ":" in address.host else address.host
    return parts._replace(netloc=f"{login}{at}{host}:{address.port}").geturl()
