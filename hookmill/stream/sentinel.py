"""Which server is the master that sentinels watch: asked of them for each connection that opens,
because a failover may have closed the one before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hookmill.errors import SettingsError, StreamUnavailableError
from hookmill.stream.facts import SentinelFacts
from hookmill.stream.first_answer import first_answer
from hookmill.stream.moving import Address
from hookmill.stream.topology import server_list_of

FRESH_FOR = 0.2
"""Seconds for which an answer counts, so that connections that are opened together ask once."""


async def sentinel_facts(url: str) -> SentinelFacts | None:
    """Ask how the master of a URL is watched; None where the URL names no sentinels. Raises
    `StreamUnavailableError`.
    """
    listed = server_list_of(url)
    if listed.kind != "sentinel":
        return None
    asked = await first_answer(listed.urls, ("SENTINEL", "MASTER", listed.name), None)
    words = iter(asked.reply)
    said = dict(zip(words, words, strict=True))
    return SentinelFacts(
        sentinels=1 + int(said[b"num-other-sentinels"]),
        quorum=int(said[b"quorum"]),
        replicas=int(said[b"num-slaves"]),
    )


class MasterAddress:
    """Where the master of this name is. `urls` lead to sentinels. They are read again from
    `url_file`, if there is one, because the sentinels' password may be another by now. Any thread
    may read `known`.
    """

    def __init__(self, urls: Iterable[str], name: str, url_file: Path | None = None) -> None:
        self._urls = [*urls]
        self._name = name
        self._url_file = url_file
        self._asking = asyncio.Lock()
        self._asked_at = -FRESH_FOR
        self.known: Address | None = None

    async def find(self) -> Address:
        """Return where the master is now. Raises `StreamUnavailableError` if no sentinel knows."""
        async with self._asking:
            if self.known is None or time.monotonic() - self._asked_at > FRESH_FOR:
                self.known = await self._ask()
                self._asked_at = time.monotonic()
            return self.known

    def doubt(self) -> None:
        """Do nothing: `find` asks in any case."""

    def moved(self, address: Address) -> None:
        """Do nothing: only sentinels decide who is the master."""

    async def _ask(self) -> Address:
        self._read_again()
        random.shuffle(self._urls)
        try:
            _, reply = await first_answer(
                self._urls, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name), None
            )
        except (StreamUnavailableError, SettingsError) as error:
            raise StreamUnavailableError(
                f"no sentinel tells where the master {self._name!r} is: {error}"
            ) from None
        host, port = reply
        return Address(host.decode(), int(port))

    def _read_again(self) -> None:
        if self._url_file is None:
            return
        with suppress(OSError, ValueError):  # it is being replaced: the last one counts
            listed = server_list_of(self._url_file.read_text("utf-8").strip())
            if (listed.kind, listed.name) == ("sentinel", self._name):
                self._urls = [*listed.urls]
