"""Group commit: what arrived in one tick of the loop goes to Redis in one round trip.

One write is under way at a time; what arrives meanwhile forms the next one, so batches grow with
the load and an idle receiver waits for nobody. Where there is a spool, what Redis does not take
goes there, and so does all that follows until the spool is empty again. Only the event loop
touches the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from hookmill.errors import (
    BacklogFullError,
    HookmillError,
    StreamUnavailableError,
    TokenReusedError,
)
from hookmill.message import Message
from hookmill.runtime.logs import written_together
from hookmill.stream.arrival import Row, row_of
from hookmill.stream.producer import Producer
from receiver.log_limits import server_logger
from receiver.spool import Spool

log = structlog.get_logger("receiver")

BATCH_MESSAGES = 128
BATCH_BYTES = 8 * 1024 * 1024
"""What one append carries at most (a larger message goes alone), so that a round trip stays
short for everybody in it.
"""

LEAST_SHARE = 16
"""Messages that are not worth sharing: with so few, one more round trip costs more than waiting."""

Then = Callable[[Exception | None], None]
"""What is called when it is known what became of a message: with None where it is stored."""

_Waiting = tuple[Message, Then]

Stored = str | StreamUnavailableError
"""Where a message was stored ("": nowhere, its token was used before), or why it was not."""


class Appender:
    """Stores messages for many requests at once. `timeout` is in seconds for one round trip."""

    def __init__(self, stream: Producer, timeout: float, spool: Spool | None = None) -> None:
        self._stream = stream
        self._timeout = timeout
        self._spool = spool
        self._queue: deque[_Waiting] = deque()
        self._flushing: asyncio.Task[None] | None = None

    def put(self, message: Message, then: Then) -> None:
        """Have a message stored; `then` is told later what became of it: None, or an error.

        That is `TokenReusedError` for a copy of another delivery. After any other nothing is
        known: the sender will repeat the message under the same ID.
        """
        self._queue.append((message, then))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Wait for the writes under way to end."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        """Store batch after batch until nothing waits."""
        try:
            sent = 0
            while self._queue:
                batch = self._next_batch(sent)
                sent = len(batch)
                try:
                    results = await self._store([row_of(message) for message, _ in batch])
                except (StreamUnavailableError, TimeoutError) as error:
                    # Whoever queued up behind a dead Redis has waited long enough.
                    kind = type(error) if isinstance(error, HookmillError) else None
                    self._fail([*batch, *self._queue], kind or StreamUnavailableError, error)
                    self._queue.clear()
                except Exception as error:  # noqa: BLE001 - ours, and nobody may wait for ever
                    server_logger().exception("cannot append")
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
        for (_, then), result in zip(batch, results, strict=True):
            if isinstance(result, StreamUnavailableError):
                _call(then, result)
            elif result:
                _call(then, None)
            else:
                _call(then, TokenReusedError("its token came with another message ID"))

    @property
    def _too_late(self) -> str:
        return f"no answer within {self._timeout:g} s"

    def _next_batch(self, sent: int) -> list[_Waiting]:
        most = _share(len(self._queue), sent)
        batch = [self._queue.popleft()]
        size = _size(batch[0])
        while self._queue and len(batch) < most:
            size += _size(self._queue[0])
            if size > BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    def _fail(self, waiting: list[_Waiting], kind: type[Exception], cause: Exception) -> None:
        failure = kind(str(cause) or self._too_late)
        failure.__cause__ = cause
        for _, then in waiting:
            _call(then, failure)


def _share(waiting: int, sent: int) -> int:
    """Return how many to send at most: half of those under way, the ones sent last included, for
    their senders come again. So one half is answered and read while the other is written. A large
    batch that alternates with a small one would do so for ever, and leave nothing to do meanwhile.
    """
    if sent == 0:
        return BATCH_MESSAGES
    return min(max((waiting + sent + 1) // 2, LEAST_SHARE), BATCH_MESSAGES)


def _call(then: Then, error: Exception | None) -> None:
    try:
        then(error)
    except Exception:  # noqa: BLE001 - a fault with one must not keep the others waiting
        server_logger().exception("cannot say what became of a message")


def _tell(batch: list[_Waiting], results: Sequence[Stored]) -> None:
    """Log what was stored, a line each."""
    info = log.info
    # A full disk under the log, or nobody to read it, is no reason not to store what waits.
    with suppress(OSError, ValueError), written_together():
        for (message, _), result in zip(batch, results, strict=True):
            if isinstance(result, str) and result:
                info(
                    "accepted",
                    id=message.id,
                    source=message.source,
                    type=message.type,
                    bytes=len(message.body),
                )


def _size(waiting: _Waiting) -> int:
    return len(waiting[0].body) + len(waiting[0].header_block)
