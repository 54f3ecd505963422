"""Group commit: what arrived in one tick of the loop goes to Redis in one round trip.

One append is under way at a time; what arrives meanwhile forms the next one, so batches grow with
the load and an idle receiver waits for nobody. Only the event loop touches the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hookmill.errors import StreamUnavailableError
from hookmill.message import Message
from hookmill.stream import Stream

BATCH_MESSAGES = 512
BATCH_BYTES = 8 * 1024 * 1024
"""What one append carries at most (a larger message goes alone), so that a round trip stays
short for everybody in it.
"""

_Waiting = tuple[Message, "asyncio.Future[None]"]


class Appender:
    """Appends messages for many requests at once. `timeout` is in seconds for one round trip."""

    def __init__(self, stream: Stream, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        self._queue: deque[_Waiting] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def append(self, message: Message) -> None:
        """Return when the message is in the stream; raise `StreamUnavailableError` otherwise.

        After the error nothing is known: the sender will repeat it under the same ID.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((message, stored))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await stored

    async def close(self) -> None:
        """Wait for the appends under way to end."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        """Append batch after batch until nothing waits."""
        try:
            while self._queue:
                batch = self._next_batch()
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._stream.append([message for message, _ in batch])
                except (StreamUnavailableError, TimeoutError) as error:
                    # Whoever queued up behind a dead Redis has waited long enough.
                    self._fail([*batch, *self._queue], StreamUnavailableError, error)
                    self._queue.clear()
                except Exception as error:  # noqa: BLE001 - ours, and nobody may wait for ever
                    self._fail(batch, RuntimeError, error)
                else:
                    for _, stored in batch:
                        if not stored.done():
                            stored.set_result(None)
        finally:
            self._flushing = None

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
        text = str(cause) or f"no answer within {self._timeout:g} s"
        for _, stored in waiting:
            if not stored.done():
                failure = kind(text)  # one each: it collects the traceback of whoever meets it
                failure.__cause__ = cause
                stored.set_exception(failure)


def _size(waiting: _Waiting) -> int:
    return len(waiting[0].body) + len(waiting[0].header_block)
