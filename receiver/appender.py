"""Stores messages, many in one round trip to Redis ("group commit").

One batch is written at a time. Messages that arrive meanwhile form the next batch, so batches grow
with the load, and an idle receiver does not wait. With a spool, what Redis does not take goes
there, and so does everything after it of the same partition, until that is drained. Only the event
loop uses the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import islice

import structlog

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.instrumentation.facts import AppendEnded
from hookmill.message import SAFE_VERSION, Message
from hookmill.runtime.log_pace import LogPace
from hookmill.runtime.logs import KeptLines
from hookmill.runtime.spool_file import SpoolError
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.producer import Producer
from receiver.log_limits import server_logger
from receiver.responses import FAULT, TOKEN_REUSED, OnResult, Result, refusal_for
from receiver.spool import Spool
from receiver.traces import DeliveryTraces

log = structlog.get_logger("receiver")

BATCH_MESSAGES = 128
BATCH_BYTES = 8 * 1024 * 1024
"""The most that one batch may have (a larger message goes alone), so that a round trip stays short
for all messages in it.
"""

MIN_BATCH = 16
"""A batch of up to this many messages is never split in two, because with so few messages one more
round trip costs more than waiting.
"""

SPOOLED = "spooled"
"""Where a message was stored that is in the spool."""

_Queued = tuple[Message, OnResult]

_Failed = tuple[_Queued, StreamUnavailableError]

Stored = str | StreamUnavailableError
"""Where a message was stored ("": nowhere, its token was used before), or why it was not."""


class Appender:
    """Stores messages of many requests at once. `timeout` is in seconds for one round trip.
    `on_full_backlog` is called when messages are refused because too many are unfinished.
    """

    def __init__(
        self,
        stream: Producer,
        timeout: float,
        spool: Spool | None = None,
        on_full_backlog: Callable[[], None] = lambda: None,
        traces: DeliveryTraces | None = None,
    ) -> None:
        self._stream = stream
        self._timeout = timeout
        self._spool = spool
        self._on_full_backlog = on_full_backlog
        self._traces = traces
        self._wire_version = SAFE_VERSION
        self._queue: deque[_Queued] = deque()
        self._largest = 0
        """The bytes of the largest message since the queue was last empty."""
        self.waiting = 0
        """How many messages wait to be stored: in the queue, and in the batch that is written."""
        self._writing: asyncio.Task[None] | None = None
        self._log_pace = LogPace()
        self._kept_lines = KeptLines("receiver")
        self.on_append: Callable[[AppendEnded], None] | None = None
        """Is told of each append, also of one that failed."""
        self.on_written: Callable[[list[_Queued], Sequence[Stored]], None] = lambda *_: None
        """Is told of each batch, and of what became of its messages."""

    def put(self, message: Message, on_result: OnResult) -> None:
        """Queue a message. `on_result` is called later: with None when the message is stored, else
        with a refusal.

        After a refusal with 503 or 500 the message may be stored all the same. The sender sends it
        again under the same ID, so that the workers drop the duplicate.
        """
        self._queue.append((message, on_result))
        self.waiting += 1
        size = len(message.body) + len(message.header_block)
        self._largest = max(self._largest, size)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_batches())

    def write_in(self, wire_version: int) -> None:
        """Write the next batches in this wire version."""
        self._wire_version = wire_version

    async def close(self) -> None:
        """Wait until everything in the queue is written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write_batches(self) -> None:
        """Write batch after batch until the queue is empty."""
        try:
            sent = 0
            while self._queue:
                batch = self._next_batch(sent)
                sent = len(batch)
                try:
                    results = await self._write(batch)
                except (StreamUnavailableError, TimeoutError) as error:
                    # Also those in the queue: they have waited for one timeout already.
                    if not isinstance(error, StreamUnavailableError):
                        error = StreamUnavailableError(self._text_of(error))
                    batch += self._queue
                    self.waiting -= len(self._queue)
                    # Not after the answers: with an answer, the sender's next delivery is taken.
                    self._queue.clear()
                    self._fail([(queued, error) for queued in batch])
                except Exception:  # noqa: BLE001 - our own fault: still, every sender gets an answer
                    server_logger().exception("cannot append")
                    for _, on_result in batch:
                        _call(on_result, FAULT)
                else:
                    self._report(batch, results)
                    self.on_written(batch, results)
                    has_traces = self._traces is not None
                    _log_accepted(batch, results, self._kept_lines, has_traces=has_traces)
        finally:
            self._writing = None

    async def _write(self, batch: list[_Queued]) -> Sequence[Stored]:
        """Write a batch to the stream, or to the spool; return what became of each message."""
        version = self._wire_version
        try:
            rows = [row_of(message, version) for message, _ in batch]
            if self._traces is not None:
                return await self._store_traced(self._traces, batch, rows)
            return await self._store(rows)
        finally:
            self.waiting -= len(batch)

    async def _store_traced(
        self, traces: DeliveryTraces, batch: list[_Queued], rows: list[Row]
    ) -> Sequence[Stored]:
        """Do what `_store` does, in a span where messages of the batch are recorded."""
        span = traces.sending(message for message, _ in batch)
        if span is None:
            return await self._store(rows)
        error: Exception | None = None
        try:
            results = await self._store(rows)
            error = next((one for one in results if isinstance(one, Exception)), None)
            return results
        except Exception as raised:
            error = raised
            raise
        finally:
            traces.sent(span, error)

    async def _store(self, rows: list[Row]) -> Sequence[Stored]:
        """Write rows to the stream, or to the spool; return what became of each."""
        spool = self._spool
        if spool is None:
            return await self._append(rows)
        behind = await self._put_behind(spool, rows) if spool.is_active else {}
        rest = [number for number in range(len(rows)) if number not in behind]
        appended = await self._append_or_spool(spool, [rows[number] for number in rest])
        behind.update(zip(rest, appended, strict=True))
        return [behind[number] for number in range(len(rows))]

    async def _put_behind(self, spool: Spool, rows: list[Row]) -> dict[int, Stored]:
        """Spool the rows whose partitions have messages in the spool; return what became of them,
        by their numbers.
        """
        results: dict[int, Stored] = {}
        spooled, numbers = spool.spooled, []
        for number, row in enumerate(rows):
            partition = row.partition(spool.partitions)
            if partition not in spooled:
                continue
            if partition in spool.full:
                results[number] = BacklogFullError(
                    f"partition {partition}: too many messages are unfinished, and the spool holds "
                    "more of them"
                )
            else:
                numbers.append(number)
        try:
            stored = await spool.follow([rows[number] for number in numbers]) if numbers else []
        except SpoolError as error:
            return results | dict.fromkeys(numbers, error)
        for number, is_stored in zip(numbers, stored, strict=True):
            if is_stored:
                results[number] = SPOOLED
        return results

    async def _append_or_spool(self, spool: Spool, rows: list[Row]) -> list[Stored]:
        """Append rows, and spool those that Redis does not take. A full backlog is not spooled:
        Redis works, and a spool would only hide that too much is unfinished.
        """
        if not rows:
            return []
        results: list[Stored]
        try:
            results = list(await self._append(rows))
        except (StreamUnavailableError, TimeoutError) as error:
            results = [StreamUnavailableError(self._text_of(error))] * len(rows)
        failed = [number for number, result in enumerate(results) if _can_be_spooled(result)]
        if not failed:
            return results
        log.warning("append failed, spooling", error=str(results[failed[0]]))
        outcome: Stored = SPOOLED
        try:
            await spool.put([rows[number] for number in failed])
        except SpoolError as error:
            # A copy, because the traceback would lead to this frame: a cycle, and in it the rows.
            outcome = copy(error)
        for number in failed:
            results[number] = outcome
        return results

    async def _append(self, rows: list[Row]) -> Sequence[Stored]:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._stream.append_rows(rows)
        finally:
            if self.on_append is not None:
                self.on_append(AppendEnded(len(rows), began, time.perf_counter() - began))

    def _next_batch(self, sent: int) -> list[_Queued]:
        """Take the next batch from the queue. `sent` is the size of the batch before it."""
        queue = self._queue
        count = min(_batch_limit(len(queue), sent), len(queue))
        if count * self._largest > BATCH_BYTES:  # else there is no need to look at each
            count = self._count_within(BATCH_BYTES, count)
        batch = [queue.popleft() for _ in range(count)]
        if not queue:
            self._largest = 0
        return batch

    def _count_within(self, most_bytes: int, most: int) -> int:
        """Return how many messages of the queue have so many bytes together, but at least one."""
        size = 0
        for count, (message, _) in enumerate(islice(self._queue, most)):
            size += len(message.body) + len(message.header_block)
            if count and size > most_bytes:
                return count
        return most

    def _report(self, batch: list[_Queued], results: Sequence[Stored]) -> None:
        """Tell each request of a written batch what became of its message."""
        failed: list[_Failed] = []
        for queued, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                _call(queued[1], None if result else TOKEN_REUSED)
            else:
                failed.append((queued, result))
        self._fail(failed)

    def _fail(self, failed: Sequence[_Failed]) -> None:
        """Tell these requests that their messages could not be stored."""
        worth_a_line = [one for one in failed if not isinstance(one[1], BacklogFullError)]
        if len(worth_a_line) < len(failed):
            self._on_full_backlog()
        if not worth_a_line:
            self._log_pace.succeeded()
        elif self._log_pace.failed():
            # A log that cannot be written must not keep a sender from its answer.
            with suppress(OSError, ValueError):
                _log_failed(worth_a_line, self._log_pace.failures)
        for (_, on_result), error in failed:
            _call(on_result, refusal_for(error))

    def _text_of(self, error: Exception) -> str:
        return str(error) or f"no answer within {self._timeout:g} s"


def _batch_limit(queued: int, sent: int) -> int:
    """Return how many messages the next batch may have.

    That is half of all outstanding messages: those in the queue, and those just sent, whose senders
    soon send their next ones. So one half is answered and read while the other half is written.
    Otherwise large and tiny batches would alternate for ever, with nothing to do meanwhile.
    """
    if sent == 0:
        return BATCH_MESSAGES
    return min(max((queued + sent + 1) // 2, MIN_BATCH), BATCH_MESSAGES)


def _can_be_spooled(result: Stored) -> bool:
    return isinstance(result, StreamUnavailableError) and not isinstance(result, BacklogFullError)


def _call(on_result: OnResult, result: Result) -> None:
    try:
        on_result(result)
    except Exception:  # noqa: BLE001 - a fault in one request must not keep the others waiting
        server_logger().exception("cannot answer a delivery")


def _log_failed(failed: Sequence[_Failed], failures: dict[str, int]) -> None:
    """Log one line for messages that could not be stored. It names the first of them."""
    (message, _), error = failed[0]
    log.error(
        "append failed",
        error=str(error),
        messages=len(failed),
        id=message.id,
        source=message.source,
        **failures,
    )


def _log_accepted(
    batch: list[_Queued], results: Sequence[Stored], kept: KeptLines, *, has_traces: bool
) -> None:
    """Log each message that was stored, a line each."""
    info: Callable[..., object] = kept.log.info
    # A log that cannot be written (full disk, closed pipe) must not stop the storing of messages.
    with suppress(OSError, ValueError):
        for (message, _), result in zip(batch, results, strict=True):
            if isinstance(result, str) and result:
                accepted = info
                if has_traces and isinstance(message, Arrival) and message.trace:
                    accepted = partial(info, trace_id=message.trace[3:35].decode())
                accepted(
                    "accepted",
                    id=message.id,
                    source=message.source,
                    type=message.type,
                    bytes=len(message.body),
                )
        kept.write()
