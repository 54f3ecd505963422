"""Knows what each connection does, and closes those that only take a place.

A connection that sends no whole head within `HEAD_TIMEOUT` is closed. At the limit of connections,
each new one takes the place of another: of the one that is idle for longest, else of the oldest
that has sent no whole head, else of the oldest that has sent no whole body. A request that has
arrived whole is never cut off.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable

import structlog

from receiver.background import BackgroundTask
from receiver.rendering import render
from receiver.responses import Refusal
from receiver.unfinished import SMALL_HEAD

log = structlog.get_logger("receiver")

HEAD_TIMEOUT = 10.0
"""Seconds in which a whole head has to arrive, from the start of the connection on, or from the
first byte of a later head on.
"""

KEEPALIVE = 75.0
"""Seconds for which an idle connection is kept."""

MOST_HEAD_BYTES = 8 * 1024 * 1024
"""Bytes of unfinished heads that all connections may hold together, as many of large heads (above
`SMALL_HEAD`) whose bodies are on their way, and as many of large heads and of all that follows a
request until it is answered.
"""

MOST_READ_BYTES = 32 * 1024 * 1024
"""Bytes of large reads that no request has taken over yet. The event loop may read from hundreds of
connections, up to 256 KB from each, before any of their requests is looked at.
"""

_TURNS = 3
"""Turns of the event loop after which a request has taken over what was read."""

PERIOD = 1.0
"""Seconds between two looks for connections that are overdue."""

REPORT_PERIOD = 10.0
"""Seconds between two log lines about closed connections."""

_GRACE = 5.0
"""Seconds by which an idle connection may be overdue, until it is closed whatever aiohttp does."""

_UNREAD = 4 * 1024
"""Bytes of answers that wait here because a connection's sender reads none and the kernel takes no
more. That is only so if many requests were sent without reading an answer.
"""

_SLOW_HEAD = Refusal(408, "slow_head", "the head of the request took too long to arrive")


class _Head:
    """A head that is still on its way: when it began, and how many bytes of it have arrived."""

    __slots__ = ("began", "size")

    def __init__(self, began: float) -> None:
        self.began = began
        self.size = 0


class SenderConnections:
    """All connections of a receiver. Only the event loop uses it.

    A connection has to send a head, or has to send a body, or its request is being answered, or it
    is idle. `count` is called with the reason of each connection that is closed here. `clock` is in
    seconds and never goes back.
    """

    def __init__(
        self,
        limit: int,
        count: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._count = count
        self._clock = clock
        # A dict keeps the order in which its keys came: the oldest is the first.
        self._open: dict[Hashable, asyncio.Transport] = {}
        self._heads: dict[Hashable, _Head] = {}
        self._parts: dict[Hashable, None] = {}
        """Those of which a part of a head has arrived."""
        self._bodies: dict[Hashable, None] = {}
        self._large_heads: dict[Hashable, int] = {}
        """The sizes of large heads, of those whose bodies are on their way."""
        self.idle: dict[Hashable, float] = {}
        """The idle connections, and since when. The fast path changes it itself, to save time."""
        self._behind: dict[Hashable, int] = {}
        """The sizes of unfinished heads that follow a request that is not answered yet."""
        self._read_bytes = 0
        self._waiting: dict[Hashable, int] = {}
        """What large heads of unanswered requests hold, and all that follows such requests."""
        self._waiting_bytes = 0
        self._head_bytes = 0
        self._large_head_bytes = 0
        self._unreported: Counter[str] = Counter()
        self._next_report = 0.0
        self._task = BackgroundTask("connections", self._look, PERIOD)

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    def start(self) -> None:
        """Look for overdue connections from time to time."""
        self._task.start()

    def has_new(self, seconds: float) -> bool:
        """Return whether one that was opened within so many seconds has sent no whole head yet."""
        newest = next(reversed(self._heads.values()), None)
        return newest is not None and self._clock() - newest.began < seconds

    async def stop(self) -> None:
        """End; a second call does nothing."""
        await self._task.stop()

    # --- what happens to a connection ---

    def opened(self, connection: Hashable, transport: asyncio.Transport) -> None:
        """Note a new connection. At the limit another one is closed, or this one."""
        if len(self._open) >= self._limit and not self._make_room():
            self._note("no_room")
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_UNREAD)
        self._open[connection] = transport
        self._heads[connection] = _Head(self._clock())

    def lost(self, connection: Hashable) -> None:
        """Forget a connection that is closed. A second call does nothing."""
        self._open.pop(connection, None)
        self._behind.pop(connection, None)
        self._waiting_bytes -= self._waiting.pop(connection, 0)
        self.answering(connection)

    def head_part(self, connection: Hashable, size: int) -> None:
        """Note that `size` bytes have arrived of a head that is not whole."""
        head = self._heads.get(connection)
        if head is None:
            if self.idle.pop(connection, None) is None:
                # They follow a request that is not answered yet.
                if self.waits(connection, size - self._behind.get(connection, 0)):
                    self._behind[connection] = size
                return
            head = self._heads[connection] = _Head(self._clock())
        self._parts[connection] = None
        self._head_bytes += size - head.size
        head.size = size
        while self._head_bytes > MOST_HEAD_BYTES:
            # Not of all that have sent no whole head: one that has sent nothing holds nothing.
            self._close(next(iter(self._parts)), "no_room_head")

    def body_awaited(self, connection: Hashable, of_head: int) -> None:
        """Note that a head of `of_head` bytes has arrived, and its body is still on its way."""
        self.answering(connection)
        if connection not in self._open:
            return
        self._bodies[connection] = None
        if of_head > SMALL_HEAD:
            self._large_heads[connection] = of_head
            self._large_head_bytes += of_head
            while self._large_head_bytes > MOST_HEAD_BYTES:
                self._close(next(iter(self._large_heads)), "no_room_body")

    def answering(self, connection: Hashable) -> None:
        """Note that a request has arrived whole."""
        if self.idle.pop(connection, None) is None:
            self._body_ended(connection)
            head = self._heads.pop(connection, None)
            if head is not None:
                self._head_bytes -= head.size
                self._parts.pop(connection, None)

    def answered(self, connection: Hashable) -> None:
        """Note that a request was answered: the connection is idle."""
        if connection in self._open:
            self._body_ended(connection)
            self.idle[connection] = self._clock()
            if self._behind and (size := self._behind.pop(connection, 0)):
                self.served(connection, size)
                self.head_part(connection, size)

    def reads(self, connection: Hashable, size: int) -> bool:
        """Note a large read. If there were too many, the connection is closed; return False."""
        if self._read_bytes + size > MOST_READ_BYTES:
            if connection in self._open:
                self._close(connection, "no_room_read")
            return False
        self._read_bytes += size
        self._taken_over(size, _TURNS)
        return True

    def _taken_over(self, size: int, turns: int) -> None:
        """Count a large read no longer, after so many turns of the event loop."""
        if turns:
            asyncio.get_running_loop().call_soon(self._taken_over, size, turns - 1)
        else:
            self._read_bytes -= size

    def waits(self, connection: Hashable, size: int) -> bool:
        """Note that `size` bytes more are held until an answer. Where there is no room for them,
        the connection is closed; return False.
        """
        while connection in self._open and self._waiting_bytes + size > MOST_HEAD_BYTES:
            if self._large_heads:
                self._close(next(iter(self._large_heads)), "no_room_body")
            else:
                self._close(connection, "no_room_answer")
        if connection not in self._open:
            return False
        self._waiting[connection] = self._waiting.get(connection, 0) + size
        self._waiting_bytes += size
        return True

    def served(self, connection: Hashable, size: int) -> None:
        """Note that `size` bytes of them are held no longer, if they were counted."""
        if held := self._waiting.get(connection, 0):
            self._waiting_bytes -= min(size, held)
            if size < held:
                self._waiting[connection] = held - size
            else:
                del self._waiting[connection]

    def unread(self, connection: Hashable) -> None:
        """Close a connection whose sender sends more, and does not read the answers."""
        if connection in self._open:
            self._close(connection, "unread")

    def long_trailers(self, connection: Hashable) -> None:
        """Close a connection on which long trailers follow a body in chunks."""
        if connection in self._open:
            self._close(connection, "long_trailers")

    def _body_ended(self, connection: Hashable) -> None:
        self._bodies.pop(connection, None)
        self._large_head_bytes -= self._large_heads.pop(connection, 0)

    # --- closing ---

    def _make_room(self) -> bool:
        """Close the connection that can best be closed; return whether there is one."""
        for kind, why in (
            (self.idle, "no_room_idle"),
            (self._heads, "no_room_head"),
            (self._bodies, "no_room_body"),
        ):
            if kind:
                self._close(next(iter(kind)), why)
                return True
        return False

    def _close(self, connection: Hashable, why: str, answer: bytes = b"") -> None:
        """Close a connection, after an answer if its sender reads."""
        transport = self._open[connection]
        self._note(why)
        self.lost(connection)
        if answer and not transport.get_write_buffer_size():
            transport.write(answer)
            transport.close()
        else:
            # `close` would wait until the sender has read all that was written before.
            transport.abort()

    def _note(self, why: str) -> None:
        self._count(why)
        self._unreported[why] += 1

    async def _look(self) -> None:
        """Close the overdue connections, and log what was closed since the last log line."""
        now = self._clock()
        while self._heads:
            connection, head = next(iter(self._heads.items()))
            if now < head.began + HEAD_TIMEOUT:
                break
            # A connection on which nothing was sent gets no answer: nothing was asked.
            answer = render(_SLOW_HEAD.reply("", 0), is_last=True) if head.size else b""
            self._close(connection, "slow_head", answer)
        while self.idle:
            connection, since = next(iter(self.idle.items()))
            if now < since + KEEPALIVE + _GRACE:
                break
            self._close(connection, "unread")
        if self._unreported and now >= self._next_report:
            log.warning("connections closed", open=len(self._open), **self._unreported)
            self._unreported.clear()
            self._next_report = now + REPORT_PERIOD
