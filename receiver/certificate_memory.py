"""Keeps in Redis at which URLs senders' certificates were good, so that after a restart no flood of
forged deliveries keeps them from being fetched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from hookmill.config.sources import Source
from hookmill.errors import StreamUnavailableError
from hookmill.signatures.scheme import NetworkScheme
from hookmill.stream.certificate_urls import CertificateUrls
from hookmill.stream.client import Client
from receiver.background import BackgroundTask
from receiver.certificates import Certificates

PERIOD = 5.0
"""Seconds between two looks for URLs that have proven good."""

NOTED_FOR = 86_400.0
"""Seconds after which a URL that is still in use is noted again."""


class CertificateMemory:
    """`start` it, tell it when the sources are replaced, `stop` it. Without a source that needs
    certificates it does nothing. Redis may be away: then it tries again.
    """

    def __init__(self, client: Client, certificates: Certificates) -> None:
        self._urls = CertificateUrls(client)
        self._certificates = certificates
        self._schemes: list[NetworkScheme] = []
        self._is_read = False
        self._noted: dict[str, float] = {}
        self._task = BackgroundTask("certificate URLs", self._look, PERIOD)

    def replace_sources(self, sources: Iterable[Source]) -> None:
        """Watch the schemes of these sources from now on."""
        self._schemes = [one.scheme for one in sources if isinstance(one.scheme, NetworkScheme)]

    def start(self) -> None:
        """Read what is known, and look from time to time for more."""
        self._task.start()

    async def stop(self) -> None:
        """Note what is new, and end."""
        await self._task.stop()
        await self._look()

    async def _look(self) -> None:
        if not self._schemes:
            return
        with suppress(StreamUnavailableError):  # other parts of the receiver say so
            if not self._is_read:
                self._certificates.trust(await self._urls.read())
                self._is_read = True
            now = time.time()
            proven = {url for scheme in self._schemes for url in scheme.proven_urls}
            new = {url for url in proven if now >= self._noted.get(url, 0.0) + NOTED_FOR}
            if new:
                self._certificates.trust(new)
                await self._urls.note(new, now)
                self._noted = {url: self._noted.get(url, now) for url in proven} | dict.fromkeys(
                    new, now
                )
