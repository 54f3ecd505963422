"""Signed deliveries, those who send them, and a receiver in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from hookmill.config.settings import Settings
from hookmill.config.sources import sources_of
from hookmill.debug.fixtures import qstash_headers
from hookmill.signatures.qstash import QStash
from receiver.app import Receiver
from receiver.main import stream_of
from tests.support import CURRENT_KEY, eventually, signed_headers


class Post(NamedTuple):
    """One delivery, signed or not."""

    message_id: str
    body: bytes
    headers: dict[str, str]


def order(number: int, *, signed: bool = True) -> Post:
    """A delivery as QStash makes it."""
    body = b'{"type":"order.paid","order_id":"A-%d","amount":%d}' % (number, number)
    message_id = f"m{number}"
    headers = qstash_headers(body, message_id)
    if signed:
        headers |= signed_headers(QStash([CURRENT_KEY]), body, "/qstash")
    return Post(message_id, body, headers)


class Answer(NamedTuple):
    """Status 0: the connection ended without an answer."""

    status: int
    retry_after: str | None = None


async def post(http: aiohttp.ClientSession, url: str, given: Post) -> Answer:
    try:
        async with http.post(f"{url}/qstash", data=given.body, headers=given.headers) as response:
            return Answer(response.status, response.headers.get("Retry-After"))
    except aiohttp.ClientError:
        return Answer(0)


@asynccontextmanager
async def http_client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


class Senders:
    """Send deliveries over several connections, on each the next one after the last answer, until
    `stop` or until there is no answer. `answers` has the status of each message ID.
    """

    def __init__(self, url: str, count: int = 8) -> None:
        self.answers: dict[str, int] = {}
        self.is_over = False
        self._url = url
        self._numbers = iter(range(1_000_000))
        self._running = [asyncio.create_task(self._run()) for _ in range(count)]

    async def _run(self) -> None:
        async with http_client() as http:
            while not self.is_over:
                given = order(next(self._numbers))
                answer = await post(http, self._url, given)
                self.answers[given.message_id] = answer.status
                if not answer.status:
                    return

    def answered(self, status: int) -> set[str]:
        return {message_id for message_id, found in self.answers.items() if found == status}

    async def more(self, status: int, count: int) -> None:
        """Wait until so many more were answered like this."""
        enough = len(self.answered(status)) + count
        await eventually(lambda: len(self.answered(status)) >= enough, timeout=30)

    async def stop(self) -> None:
        self.is_over = True
        await asyncio.gather(*self._running)


@asynccontextmanager
async def receiving(settings: Settings) -> AsyncIterator[str]:
    """Run a receiver in this process; gives its URL."""
    stream = stream_of(settings)
    receiver = Receiver(settings, sources_of(settings), stream)
    port = await receiver.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await receiver.stop()
        await eventually(lambda: not _connections(), what="the connections' tasks to end")
        await stream.client.close()


def _connections() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "RequestHandler" in str(task.get_coro())]
