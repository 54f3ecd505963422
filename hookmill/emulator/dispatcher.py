"""Carries messages to their destinations: begins what the desk says, and says how that ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from hookmill.emulator.broker import Desk
from hookmill.emulator.models import Answer, Keys, Message
from hookmill.errors import StreamUnavailableError
from hookmill.signatures import Signed
from hookmill.signatures.qstash import QStash

log = structlog.get_logger("qstash")

AT_A_TIME = 100
"""Attempts under way at most."""

LONGEST = 900.0
"""Seconds a destination may take where its message does not say less."""

MOST_BYTES = 1024 * 1024
"""What is kept of an answer's body."""

PAUSE = 1.0
"""Seconds until Redis is asked again that did not take what changed."""

LOOK_AGAIN = 5.0
"""Seconds until the clock is looked at again, whatever is due: it jumps, as when a laptop wakes."""

REGION = "EU-CENTRAL-1"

_OURS = {"upstash-signature", "host", "content-length", "connection", "transfer-encoding"}
"""Headers that no publisher decides."""

Keep = Callable[[], Awaitable[None]]


class Courier:
    """Delivers in the background. `keep` writes down what changed."""

    def __init__(self, desk: Desk, keep: Keep) -> None:
        self._desk = desk
        self._keep = keep
        self._woken = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        """What an attempt died of that is not its destination's doing."""
        self._client: aiohttp.ClientSession | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to deliver. The task returned ends only by `stop`, or by a fault of ours."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),  # one message's answer is nothing to the next
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        running = asyncio.create_task(self._run())
        self._running.append(running)
        return running

    def wake(self) -> None:
        """Look again whether something may begin."""
        self._woken.set()

    async def stop(self) -> None:
        """Stop. Attempts under way are given up, and made again by the next start."""
        tasks = [*self._attempts, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._fault is not None:
                raise self._fault
            begun = self._desk.begin(AT_A_TIME - len(self._attempts))
            # First, so that nothing is delivered of which a crash, or another stand-in, leaves no
            # trace: a schedule's message would be made again, under another ID.
            while not await self._write_down():  # noqa: ASYNC110 - it is Redis that we wait for
                await asyncio.sleep(PAUSE)
            for message in begun.messages:
                attempt = asyncio.create_task(self._attempt(message))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._ended)
            await self._wait_until(begun.look_again_ms)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and attempt.exception() is not None:
            self._fault = attempt.exception()
            self.wake()

    async def _wait_until(self, at_ms: int | None) -> None:
        seconds = LOOK_AGAIN if at_ms is None else at_ms / 1000 - self._desk.now_ms() / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, LOOK_AGAIN))):
                await self._woken.wait()

    async def _attempt(self, message: Message) -> None:
        answer = await self._deliver(message)
        self._desk.settle(message, answer)
        log.info(
            "delivered" if 200 <= answer.status < 300 else "not delivered",
            id=message.id, url=message.url, status=answer.status, retried=message.retried,
            **({"error": answer.error} if answer.error else {}),
        )  # fmt: skip
        await self._write_down()
        self.wake()

    async def _write_down(self) -> bool:
        try:
            await self._keep()
        except (StreamUnavailableError, TimeoutError) as error:
            # It is kept in memory, and written down before anything else begins.
            log.warning("Redis did not take what changed", error=str(error))
            return False
        return True

    async def _deliver(self, message: Message) -> Answer:
        if self._client is None:
            return Answer(error="the courier has not started")
        if self._desk.is_gone(message):
            return Answer(error="cancelled")
        timeout = aiohttp.ClientTimeout(total=min(message.template.timeout or LONGEST, LONGEST))
        try:
            async with self._client.request(
                message.template.method,
                URL(message.url, encoded=True),
                data=message.template.body,
                headers=headers_of(message, self._desk.keys, time.time()),
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                headers = tuple((_text(n), _text(value)) for n, value in response.headers.items())
                return Answer(response.status, headers, await _beginning(response))
        except TimeoutError:
            return Answer(error=f"no answer within {timeout.total:g} s")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            return Answer(error=_text(str(error)) or type(error).__name__)


def _text(given: str) -> str:
    """Return what can be written down: bytes of an answer that are no UTF-8 cannot."""
    return given.encode(errors="surrogateescape").decode(errors="replace")


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= MOST_BYTES:
            break
    return body[:MOST_BYTES]


def headers_of(message: Message, keys: Keys, now: float) -> CIMultiDict[str]:
    """Return the headers of an attempt, with a token of its own."""
    given = [(name, text) for name, text in message.template.headers if name.lower() not in _OURS]
    headers = CIMultiDict(given)
    headers.setdefault("User-Agent", "Upstash-QStash")
    headers["Upstash-Message-Id"] = message.id
    headers["Upstash-Retried"] = str(message.retried)
    headers["Upstash-Caller-Ip"] = message.template.caller_ip
    headers["Upstash-Region"] = REGION
    for name, text in (
        ("Upstash-Topic-Name", message.topic),
        ("Upstash-Schedule-Id", message.schedule_id),
    ):
        if text:
            headers[name] = text
    # The destination's own text is what the token is for: with no base, the target is all of it.
    delivery = Signed(headers, message.template.body, target=message.url)
    return CIMultiDict(QStash([keys.current]).sign(delivery, now).headers)
