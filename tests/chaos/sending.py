"""The senders of a chaos run. Like real ones, they send a delivery again until it is accepted."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable

import aiohttp

from tests.chaos.site import RECEIVERS
from tests.e2e.line import Line, Post

SENDERS = 40
KEYS_EACH = 10
"""Ordering keys of one sender."""

_TICK = 0.05


class Senders:
    """They send `messages` deliveries, at most `rate` a second if it is given, and as far as
    `allow` lets them. Half of the deliveries have an ordering key. A key belongs to one sender,
    which sends its next message only when the last one was accepted.
    """

    def __init__(self, lines: list[Line], messages: int, rate: float | None = None) -> None:
        self.lines = lines
        self.messages = messages
        self.accepted: dict[str, float] = {}
        """When each message was accepted, in Unix time, by its ID."""

        self.in_order: defaultdict[str, list[str]] = defaultdict(list)
        """The message IDs of each ordering key, in the order in which they were accepted."""

        self._rate = rate
        self._began = time.monotonic()
        self._allowed = 0
        self._more = asyncio.Event()
        self._extra: set[asyncio.Task[None]] = set()

    def allow(self, count: int) -> None:
        """Allow the senders to send the first `count` messages."""
        self._allowed = count
        self._more.set()

    async def run(self) -> None:
        """Post every delivery until it is accepted, and one in ten a second time."""
        self._began = time.monotonic()
        numbers = iter(range(self.messages))
        connector = aiohttp.TCPConnector(limit=SENDERS)
        timeout = aiohttp.ClientTimeout(total=4)
        ticking = asyncio.create_task(self._tick())
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            sending = (self._send(session, name, numbers) for name in range(SENDERS))
            await asyncio.gather(*sending)
        ticking.cancel()
        await asyncio.gather(*self._extra)

    def send_extra(self, posts: Iterable[Post], name: str = "") -> None:
        """Send these as well, beside the others and without any order."""
        task = asyncio.create_task(self._send_extra(list(posts)), name=name)
        self._extra.add(task)

    async def _send_extra(self, posts: list[Post]) -> None:
        # A body of 8 MB takes its time on a slow line.
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            posting = (
                self._post(session, self.lines[n % RECEIVERS], post) for n, post in enumerate(posts)
            )
            await asyncio.gather(*posting)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._more.set()

    def _limit(self) -> int:
        if self._rate is None:
            return self._allowed
        return min(self._allowed, int((time.monotonic() - self._began) * self._rate))

    async def _send(
        self, session: aiohttp.ClientSession, name: int, numbers: Iterable[int]
    ) -> None:
        for number in numbers:
            while number >= self._limit():
                self._more.clear()
                await self._more.wait()
            line = self.lines[number // 2 % RECEIVERS]
            key = "" if number % 2 else f"post_{name}_{number // 2 % KEYS_EACH}"
            post = line.post_published(number, key) if key else line.order(number)
            await self._post(session, line, post)
            if key:
                self.in_order[key].append(post.message_id)
            if number % 20 in {0, 11}:
                await self._post(session, line, post)

    async def _post(self, session: aiohttp.ClientSession, line: Line, post: Post) -> None:
        while True:
            try:
                async with session.post(
                    line.base + post.path, data=post.body, headers=post.headers
                ) as answer:
                    if answer.status == 200:
                        self.accepted.setdefault(post.message_id, time.time())
                        return
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass  # no receiver, or no answer: the sender still has the delivery
            await asyncio.sleep(0.2)
