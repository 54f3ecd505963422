"""Group commit: what arrived in one tick of the loop goes to Redis in one round trip.

One write is under way at a time; what arrives meanwhile forms the next one, so batches grow with
the load and an idle receiver waits for nobody. Where there is a spool, what Redis does not take
goes there, and so does all that follows until the spool is empty again. Only the event loop
touches the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from hookmill.arrival import Row, row_of
from hookmill.errors import (
    BacklogFullError,
    HookmillError,
    StreamUnavailableError,
    TokenReusedError,
)
from hookmill.logs import written_together
from hookmill.message import Message
from hookmill.stream import Stream
from receiver.spool import Spool

log = structlog.get_logger("receiver")

BATCH_MESSAGES = 512
BATCH_BYTES = 8 * 1024 * 1024
"""What one append carries at most (a larger message goes alone), so that a round trip stays
short for everybody in it.
"""

_Waiting = tuple[Message, "asyncio.Future[None]"]

Stored = str | StreamUnavailableError
"""Where a message was stored ("": nowhere, its token was used before), or why it was not."""


class Appender:
    """Stores messages for many requests at once. `timeout` is in seconds for one round trip."""

    def __init__(self, stream: Stream, timeout: float, spool: Spool | None = None) -> None:
        self._stream = stream
        self._timeout = timeout
        self._spool = spool
        self._queue: deque[_Waiting] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def append(self, message: Message) -> None:
        """Return when the message is stored. Otherwise raise `StreamUnavailableError`, or
        `TokenReusedError` for a copy of another delivery.

        After the former nothing is known: the sender will repeat it under the same ID.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((message, stored))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await stored

    async def close(self) -> None:
        """Wait for the writes under way to end."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        """Store batch after batch until nothing waits."""
        try:
            while self._queue:
                batch = self._next_batch()
                try:
                    results = await self._store([row_of(message) for message, _ in batch])
                except (StreamUnavailableError, TimeoutError) as error:
                    # Whoever queued up behind a dead Redis has waited long enough.
                    kind = type(error) if isinstance(error, HookmillError) else None
                    self._fail([*batch, *self._queue], kind or StreamUnavailableError, error)
                    self._queue.clear()
                except Exception as error:  # noqa: BLE001 - ours, and nobody may wait for ever
                    self._fail(batch, RuntimeError, error)
                else:
                    self._answer(batch, results)
                    _tell(batch, results)
        finally:
            self._flushing = None

    async def _store(self, rows: list[Row]) -> Sequence[Stored]:
        """Write rows to the stream, or to the spool; say of each what became of it."""
        if self._spool is None:
            return await self._to_stream(rows)
        spooled = ["spooled"] * len(rows)
        if self._spool.is_active:
            if self._spool.is_stuck_in_backlog:
                raise BacklogFullError("too many messages are unfinished, and more are spooled")
            if await self._spool.follow(rows):
                return spooled
        try:
            return await self._to_stream(rows)
        except BacklogFullError:
            raise  # Redis is there, and says that senders should wait
        except (StreamUnavailableError, TimeoutError) as error:
            log.warning("append failed, spooling", error=str(error) or self._too_late)
        await self._spool.put(rows)
        return spooled

    async def _to_stream(self, rows: list[Row]) -> Sequence[Stored]:
        async with asyncio.timeout(self._timeout):
            return await self._stream.append_rows(rows)

    def _answer(self, batch: list[_Waiting], results: Sequence[Stored]) -> None:
        for (_, stored), result in zip(batch, results, strict=True):
            if stored.done():
                continue
            if isinstance(result, StreamUnavailableError):
                stored.set_exception(type(result)(str(result)))  # one each, as below
            elif result:
                stored.set_result(None)
            else:
                stored.set_exception(TokenReusedError("its token came with another message ID"))

    @property
    def _too_late(self) -> str:
        return f"no answer within {self._timeout:g} s"

    def _next_batch(self) -> list[_Waiting]:
        batch = [self._queue.popleft()]
        size = _size(batch[0])
        while self._queue and len(batch) < BATCH_MESSAGES:
            size += _size(self._queue[0])
            if size > BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    def _fail(self, waiting: list[_Waiting], kind: type[Exception], cause: Exception) -> None:
        text = str(cause) or self._too_late
        for _, stored in waiting:
            if not stored.done():
                failure = kind(text)  # one each: it collects the traceback of whoever meets it
                failure.__cause__ = cause
                stored.set_exception(failure)


def _tell(batch: list[_Waiting], results: Sequence[Stored]) -> None:
    """Log what was stored, a line each."""
    # A full disk under the log, or nobody to read it, is no reason not to store what waits.
    with suppress(OSError, ValueError), written_together():
        for (message, _), result in zip(batch, results, strict=True):
            if isinstance(result, str) and result:
                log.info(
                    "accepted",
                    id=message.id,
                    source=message.source,
                    type=message.type,
                    bytes=len(message.body),
                )


def _size(waiting: _Waiting) -> int:
    return len(waiting[0].body) + len(waiting[0].header_block)
