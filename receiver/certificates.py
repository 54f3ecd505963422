"""Fetches the certificates that some senders sign with, and confirms subscriptions: the one place
where the receiver speaks to somebody on account of what a request says.

Whoever sends forged deliveries must not make us bother others: hosts are pinned by the scheme, one
request a URL at a time, few at once, few a minute, answers kept for a while, no redirects, little
to read. What cannot be had is `CertificateUnavailableError`, to be answered so that it comes again.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from hookmill.errors import CertificateUnavailableError, NotConfirmedError
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkScheme,
    Scheme,
    Signed,
    Verdict,
)

LARGEST = 64 * 1024
"""Bytes an answer may have."""

TIMEOUT = 5.0
"""Seconds a request may take."""

KEPT = 60.0
"""Seconds a certificate is kept here; a scheme that finds it good remembers it for longer."""

KEPT_FAILURE = 5.0
"""Seconds after a failure in which the same URL is not asked for again."""

AT_ONCE = 4
"""Requests under way at the same time."""

A_MINUTE = 20
"""Certificates fetched in a minute. Those that were found good before do not count."""

GOOD_ONES = 32
"""URLs remembered for the good certificates that were there."""


class _NoAnswerError(Exception):
    """What was answered is nothing to use."""


class _Answer(NamedTuple):
    pem: bytes
    trouble: str
    until: float


class Certificates:
    """Start nothing before it is asked; close it in the end.

    `resolver` finds hosts and `context` says whom to trust, where it is not as usual; `clock` is in
    seconds and never goes back.
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
        self._under_way: dict[str, asyncio.Task[_Answer]] = {}
        self._answers: dict[str, _Answer] = {}
        self._fetched: defaultdict[str, deque[float]] = defaultdict(deque)
        self._good: dict[str, None] = {}

    async def judge(self, scheme: Scheme | NetworkScheme, delivery: Signed, now: float) -> Verdict:
        """Verify a delivery, with the certificate it needs. Raises `CertificateUnavailableError`
        where that cannot be had: then nothing is known of the delivery.
        """
        verdict = scheme.verify(delivery, now)
        if not isinstance(verdict, NeedsCertificate):
            return verdict
        assert isinstance(scheme, NetworkScheme)  # noqa: S101 - no other asks for one
        url = verdict.url
        pem = await self.fetch(url)
        if refusal := scheme.learn(url, pem, now):
            if refusal.code == "certificate_malformed":  # a page that says "come back later"
                raise CertificateUnavailableError(f"{url}: {refusal.detail}")
            return refusal
        self._remember_good(url)
        verdict = scheme.verify(delivery, now)
        if isinstance(verdict, NeedsCertificate):
            raise CertificateUnavailableError(f"{url}: the certificate ended while it was fetched")
        return verdict

    async def fetch(self, url: str) -> bytes:
        """Return what is at a URL that a scheme has judged."""
        answer = self._kept(url)
        if answer is None:
            # One that was good before is not held up by a flood of others.
            if url not in self._good and url not in self._under_way:
                self._count(url)
            answer = await self._once(url)
            kept = KEPT_FAILURE if answer.trouble else KEPT
            self._answers[url] = answer._replace(until=self._clock() + kept)
        if answer.trouble:
            raise CertificateUnavailableError(f"{url}: {answer.trouble}")
        return answer.pem

    async def confirm(self, url: str) -> None:
        """GET the URL of a subscription that a scheme has verified. Raises `NotConfirmedError`."""
        answer = await self._once(url)
        if answer.trouble:
            # Not the URL itself: it holds the token that confirms.
            raise NotConfirmedError(f"{URL(url, encoded=True).host}: {answer.trouble}")

    async def close(self) -> None:
        """End what is under way, and the connections."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _kept(self, url: str) -> _Answer | None:
        """Return what was answered lately; what is older is forgotten."""
        now = self._clock()
        for old in [one for one, answer in self._answers.items() if answer.until <= now]:
            del self._answers[old]
        return self._answers.get(url)

    def _count(self, url: str) -> None:
        """Count a request; refuse it where there were too many, so that what is kept is bounded."""
        now = self._clock()
        # Each sender for itself (its hosts share a domain), so that a flood in the name of one does
        # not keep the other out.
        fetched = self._fetched[".".join((URL(url).host or "").split(".")[-2:])]
        while fetched and fetched[0] <= now - 60:
            fetched.popleft()
        if len(fetched) >= A_MINUTE:
            raise CertificateUnavailableError(
                f"{url}: not fetched, {A_MINUTE} other certificates were asked for in a minute"
            )
        fetched.append(now)

    def _remember_good(self, url: str) -> None:
        self._good.pop(url, None)
        if len(self._good) >= GOOD_ONES:
            del self._good[next(iter(self._good))]
        self._good[url] = None

    async def _once(self, url: str) -> _Answer:
        """Ask, or wait for the answer that others wait for. A waiter that goes stops nothing."""
        task = self._under_way.get(url)
        if task is None:
            task = asyncio.create_task(self._ask(url), name="certificate")
            self._under_way[url] = task
            task.add_done_callback(lambda _: self._under_way.pop(url, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by close, not our waiter
                return _Answer(b"", "the receiver is stopping", 0.0)
            raise

    async def _ask(self, url: str) -> _Answer:
        """GET a URL; whatever goes wrong is part of the answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return _Answer(await self._get(url), "", 0.0)
        except TimeoutError:
            return _Answer(b"", f"no answer in {TIMEOUT:g} s", 0.0)
        except (_NoAnswerError, aiohttp.ClientConnectorError) as error:
            return _Answer(b"", str(error), 0.0)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may hold the URL, which may hold the token that confirms.
            return _Answer(b"", type(error).__name__, 0.0)

    async def _get(self, url: str) -> bytes:
        # As it was judged: nothing about it may be put in another form.
        target = URL(url, encoded=True)
        if target.scheme != "https":
            raise _NoAnswerError("only https is asked")
        headers = {"Accept-Encoding": "identity"}
        async with self._open().get(target, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                raise _NoAnswerError(f"the answer was {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST:
                    raise _NoAnswerError(f"the answer has more than {LARGEST} bytes")
            return bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=AT_ONCE, resolver=self._resolver, ssl=self._context or True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Inflated, an answer could be larger than what is read of it.
                auto_decompress=False,
            )
        return self._session
