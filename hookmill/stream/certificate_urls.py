"""The URLs of certificates with which genuine deliveries were signed, kept for later receivers.

They are hints only: whoever reads one checks it as it checks a URL in a delivery. Only commands are
used that a receiver has to send anyway, so its user needs no other rights.
"""

from __future__ import annotations

from collections.abc import Iterable

from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE

MOST = 32
"""How many URLs are kept: those that were noted last."""

KEPT_FOR = 90 * 86_400
"""Seconds after the last note until all are forgotten."""


class CertificateUrls:
    """The URLs in Redis. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.partitions[PLACE].certificate_urls

    async def read(self) -> list[str]:
        """Return the URLs, those that were noted last at the end."""
        return [url.decode("utf-8", "replace") for url in await self._oldest_first()][-MOST:]

    async def note(self, urls: Iterable[str], now: float) -> None:
        """Note that a genuine delivery named each of these URLs (at least one). `now` is Unix time
        in seconds.
        """
        new = [url.encode("utf-8", "replace") for url in urls]
        old = [url for url in await self._oldest_first() if url not in new]
        noted = [part for url in new[-MOST:] for part in (url, int(now))]
        dropped = old[: max(0, len(old) + len(noted) // 2 - MOST)]
        for reply in await self._client.ask(
            PLACE,
            ("HSET", self._key, *noted),
            ("PEXPIRE", self._key, KEPT_FOR * 1000),
            *([("HDEL", self._key, *dropped)] if dropped else []),
        ):
            checked(reply)

    async def _oldest_first(self) -> list[bytes]:
        found = await self._client.execute(PLACE, "HGETALL", self._key)
        times = dict(zip(found[::2], found[1::2], strict=True))
        return sorted(times, key=lambda url: int(times[url]))
