"""Fetches the certificates that some senders sign with, and confirms subscriptions.

Only this module makes requests because of what a delivery says. A forged delivery must not turn
the receiver against other hosts. So a scheme allows only known hosts. This module makes few
requests (one at a time for a URL, a few at once, a few a minute), and refuses large answers and
redirects. `certificate_budget` decides which unknown URLs are requested.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from hookmill.errors import CertificateUnavailableError, NotConfirmedError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkScheme,
    Scheme,
    Signed,
    Verdict,
)
from receiver import certificate_budget
from receiver.certificate_budget import CertificateBudget

LARGEST = 64 * 1024
"""The most bytes that an answer may have."""

TIMEOUT = 5.0
"""Seconds that a request may take."""

KEPT = 60.0
"""Seconds for which an answer is kept here. A scheme keeps a valid certificate for longer."""

KEPT_FAILURE = 5.0
"""Seconds after a failure until the same URL is requested again."""

AT_ONCE = 4
"""Requests that may run at the same time."""

KNOWN_URLS = 32
"""URLs that are remembered because a valid certificate was found there, and as many that have
verified a delivery.
"""


class _UnusableError(Exception):
    """The answer to a request cannot be used."""


class _Fetched(NamedTuple):
    """The answer to a request, or what went wrong ("": nothing), and until when it is kept."""

    body: bytes
    trouble: str
    until: float


class Certificates:
    """Fetches and keeps certificates. Nothing is opened before the first request; `close` it.

    `resolver` and `context` (trusted authorities) replace those of the system, in tests. `clock` is
    in seconds and never goes back.
    """

    def __init__(
        self,
        resolver: AbstractResolver | None = None,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._context = context
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._running: dict[str, asyncio.Task[_Fetched]] = {}
        self._answers: dict[str, _Fetched] = {}
        self._budgets: dict[str, CertificateBudget[NetworkScheme]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._valid: dict[str, None] = {}
        """Where a valid certificate was found. Anybody can name such a URL."""
        self._proven: dict[str, None] = {}
        """Whose certificates have verified a delivery. Only the sender can add one."""

    def trust(self, urls: Iterable[str]) -> None:
        """Remember URLs whose certificates have verified a delivery. A URL is still fetched only if
        a scheme allows its host.
        """
        for url in urls:
            _remember(url, self._proven)

    async def judge(self, scheme: Scheme | NetworkScheme, delivery: Signed, now: float) -> Verdict:
        """Verify a delivery, with the certificate that it needs. Raise
        `CertificateUnavailableError` if that cannot be fetched: the delivery may be genuine or not.
        """
        verdict = scheme.verify(delivery, now)
        if not isinstance(verdict, NeedsCertificate):
            return verdict
        assert isinstance(scheme, NetworkScheme)  # noqa: S101 - no other scheme needs one
        url = verdict.url
        pem = await self.fetch(url, scheme)
        if refusal := scheme.learn(url, pem, now):
            if (
                refusal.code == "certificate_malformed"
            ):  # perhaps a page that says "come back later"
                raise CertificateUnavailableError(f"{url}: {refusal.detail}")
            return refusal
        _remember(url, self._valid)
        verdict = scheme.verify(delivery, now)
        if isinstance(verdict, NeedsCertificate):
            raise CertificateUnavailableError(
                f"{url}: the certificate expired while it was fetched"
            )
        return verdict

    async def fetch(self, url: str, scheme: NetworkScheme | None = None) -> bytes:
        """Return the body at a URL that a scheme has allowed. If it cannot be requested at once,
        raise; then the scheme will learn the certificate later.
        """
        fetched = self._kept(url)
        if fetched is None:
            # These are not limited, so that a flood of other URLs does not keep them out.
            is_known = url in self._proven or url in self._valid or url in self._running
            if not is_known and not self._allows(url, scheme):
                raise CertificateUnavailableError(f"{url}: not fetched yet, too many others were")
            fetched = await self._request_and_keep(url)
        if fetched.trouble:
            raise CertificateUnavailableError(f"{url}: {fetched.trouble}")
        return fetched.body

    async def confirm(self, url: str) -> None:
        """Confirm a subscription by a GET of its URL, which a scheme has verified. Raise
        `NotConfirmedError` if that fails.
        """
        fetched = await self._request_once(url)
        if fetched.trouble:
            # Only the host, because the URL contains the token that confirms.
            raise NotConfirmedError(f"{URL(url, encoded=True).host}: {fetched.trouble}")

    async def close(self) -> None:
        """Cancel the running requests and close the connections."""
        if self._serving is not None:
            await cancel_and_wait([self._serving])
        await cancel_and_wait(self._running.values())
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _kept(self, url: str) -> _Fetched | None:
        """Return the kept answer of a URL, if any. Answers that were kept too long are deleted."""
        now = self._clock()
        for old in [one for one, fetched in self._answers.items() if fetched.until <= now]:
            del self._answers[old]
        return self._answers.get(url)

    def _allows(self, url: str, scheme: NetworkScheme | None) -> bool:
        """Return whether an unknown URL may be requested at once. Else it waits."""
        # Counted for each sender (its hosts share a domain), so that forged deliveries in the name
        # of one sender do not keep out another.
        sender = ".".join((URL(url).host or "").split(".")[-2:])
        budget = self._budgets.get(sender)
        if budget is None:
            budget = self._budgets[sender] = CertificateBudget(self._clock)
        if budget.allows(url):
            return True
        if scheme is not None:
            budget.wait(url, scheme)
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve(), name="waiting certificates")
        return False

    async def _serve(self) -> None:
        """Fetch the certificates that wait, until none waits."""
        while any(self._budgets.values()):
            await asyncio.sleep(certificate_budget.PAUSE)
            drawn = [one for budget in self._budgets.values() if (one := budget.draw())]
            await asyncio.gather(*(self._learn(url, scheme) for url, scheme in drawn))

    async def _learn(self, url: str, scheme: NetworkScheme) -> None:
        """Fetch a certificate for the next delivery that needs it."""
        fetched = self._kept(url) or await self._request_and_keep(url)
        if not fetched.trouble and scheme.learn(url, fetched.body, time.time()) is None:
            _remember(url, self._valid)

    async def _request_and_keep(self, url: str) -> _Fetched:
        fetched = await self._request_once(url)
        kept = KEPT_FAILURE if fetched.trouble else KEPT
        self._answers[url] = fetched = fetched._replace(until=self._clock() + kept)
        return fetched

    async def _request_once(self, url: str) -> _Fetched:
        """Start a request, or wait for the running one of the same URL.

        A caller that is cancelled does not stop the request, because others may wait for it.
        """
        task = self._running.get(url)
        if task is None:
            task = asyncio.create_task(self._request(url), name="certificate")
            self._running[url] = task
            task.add_done_callback(lambda _: self._running.pop(url, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by `close`; else our caller was cancelled
                return _Fetched(b"", "the receiver is stopping", 0.0)
            raise

    async def _request(self, url: str) -> _Fetched:
        """GET a URL. Return what went wrong instead of raising it."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return _Fetched(await self._get(url), "", 0.0)
        except TimeoutError:
            return _Fetched(b"", f"no answer in {TIMEOUT:g} s", 0.0)
        except (_UnusableError, aiohttp.ClientConnectorError) as error:
            return _Fetched(b"", str(error), 0.0)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not its text: that may contain the URL, and with it the token that confirms.
            return _Fetched(b"", type(error).__name__, 0.0)

    async def _get(self, url: str) -> bytes:
        # `encoded`: the URL is requested exactly as the scheme has checked it.
        target = URL(url, encoded=True)
        if target.scheme != "https":
            raise _UnusableError("only https is allowed")
        headers = {"Accept-Encoding": "identity"}
        async with self._open().get(target, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                raise _UnusableError(f"the answer was {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST:
                    raise _UnusableError(f"the answer has more than {LARGEST} bytes")
            return bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=AT_ONCE, resolver=self._resolver, ssl=self._context or True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A small compressed answer could become a huge one.
                auto_decompress=False,
            )
        return self._session


def _remember(url: str, among: dict[str, None]) -> None:
    """Remember a URL as the last one used. The one that was not used for longest may be dropped."""
    among.pop(url, None)
    if len(among) >= KNOWN_URLS:
        del among[next(iter(among))]
    among[url] = None
