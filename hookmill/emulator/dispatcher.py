"""Delivers messages over HTTP: makes the attempts that the broker starts, and returns results."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from hookmill.emulator.broker import Broker
from hookmill.emulator.models import AttemptResult, QStashMessage, SigningKeys
from hookmill.emulator.state import Save
from hookmill.errors import StreamUnavailableError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.signatures import Signed
from hookmill.signatures.qstash import QStash

log = structlog.get_logger("qstash")

MAX_ATTEMPTS = 100
"""Attempts that are under way at the same time."""

MAX_TIMEOUT = 900.0
"""Seconds that a destination may take, unless its message allows less."""

MAX_BYTES = 1024 * 1024
"""Bytes of a response's body that are kept."""

PAUSE_AFTER_ERROR = 1.0
"""Seconds until the changes are saved again after Redis did not take them."""

LOOK_AGAIN = 5.0
"""Seconds until the clock is read again. It can jump, for example when a laptop wakes up."""

REGION = "EU-CENTRAL-1"

_OWN_HEADERS = {"upstash-signature", "host", "content-length", "connection", "transfer-encoding"}
"""Headers that a publisher cannot set."""


class Dispatcher:
    """Delivers in the background. `save` saves the changes."""

    def __init__(self, broker: Broker, save: Save) -> None:
        self._broker = broker
        self._save = save
        self._woken = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        """An error of our own in an attempt. An error of the destination is a result instead."""
        self._client: aiohttp.ClientSession | None = None

    def start(self) -> asyncio.Task[None]:
        """Start delivering. The returned task ends only by `stop`, or by an error of our own."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),  # messages must not share cookies
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        running = asyncio.create_task(self._run())
        self._running.append(running)
        return running

    def wake(self) -> None:
        """Check now whether an attempt can start."""
        self._woken.set()

    async def stop(self) -> None:
        """Stop. Attempts under way are cancelled; the next start makes them again."""
        await cancel_and_wait(self._running)  # first, because it starts new attempts
        await cancel_and_wait(self._attempts)
        # Without this, asyncio would log an error that the caller of `start` never read.
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._bug is not None:
                raise self._bug
            started = self._broker.start_attempts(MAX_ATTEMPTS - len(self._attempts))
            # Saved before anything is delivered. Otherwise, after a crash or a takeover, the
            # message of a schedule would be published again under another ID.
            while not await self._try_save():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(PAUSE_AFTER_ERROR)
            for message in started.messages:
                attempt = asyncio.create_task(self._attempt(message))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempt_ended)
            await self._wait_until(started.look_again_ms)

    def _attempt_ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and attempt.exception() is not None:
            self._bug = attempt.exception()
            self.wake()

    async def _wait_until(self, at_ms: int | None) -> None:
        seconds = LOOK_AGAIN if at_ms is None else at_ms / 1000 - self._broker.now_ms() / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, LOOK_AGAIN))):
                await self._woken.wait()

    async def _attempt(self, message: QStashMessage) -> None:
        result = await self._deliver(message)
        self._broker.finish_attempt(message, result)
        log.info(
            "delivered" if result.is_success else "not delivered",
            id=message.id, url=message.url, status=result.status, retried=message.retried,
            **({"error": result.error} if result.error else {}),
        )  # fmt: skip
        await self._try_save()
        self.wake()

    async def _try_save(self) -> bool:
        try:
            await self._save()
        except (StreamUnavailableError, TimeoutError) as error:
            # The changes stay in memory, and are saved before another attempt starts.
            log.warning("changes not saved in Redis", error=str(error))
            return False
        return True

    async def _deliver(self, message: QStashMessage) -> AttemptResult:
        if self._client is None:
            return AttemptResult(error="the dispatcher is not started")
        if self._broker.is_gone(message):
            return AttemptResult(error="cancelled")
        seconds = min(message.template.timeout or MAX_TIMEOUT, MAX_TIMEOUT)
        try:
            async with self._client.request(
                message.template.method,
                URL(message.url, encoded=True),
                data=message.template.body,
                headers=headers_of(message, self._broker.keys, time.time()),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                headers = tuple((_text(n), _text(value)) for n, value in response.headers.items())
                return AttemptResult(response.status, headers, await _beginning(response))
        except TimeoutError:
            return AttemptResult(error=f"no response within {seconds:g} s")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            return AttemptResult(error=_text(str(error)) or type(error).__name__)


def _text(given: str) -> str:
    """Replace what is not UTF-8 in a response, because it cannot be saved."""
    return given.encode(errors="surrogateescape").decode(errors="replace")


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= MAX_BYTES:
            break
    return body[:MAX_BYTES]


def headers_of(message: QStashMessage, keys: SigningKeys, now: float) -> CIMultiDict[str]:
    """Return the headers of an attempt, with its own signed token; `now` is in Unix seconds."""
    given = message.template.headers
    headers = CIMultiDict((name, text) for name, text in given if name.lower() not in _OWN_HEADERS)
    headers.setdefault("User-Agent", "Upstash-QStash")
    headers["Upstash-Message-Id"] = message.id
    headers["Upstash-Retried"] = str(message.retried)
    headers["Upstash-Caller-Ip"] = message.template.caller_ip
    headers["Upstash-Region"] = REGION
    for name, text in (
        ("Upstash-Topic-Name", message.url_group),
        ("Upstash-Schedule-Id", message.schedule_id),
    ):
        if text:
            headers[name] = text
    # The token names the destination exactly as it was written: without a base URL, the target is
    # the whole of it.
    delivery = Signed(headers, message.template.body, target=message.url)
    return CIMultiDict(QStash([keys.current]).sign(delivery, now).headers)
