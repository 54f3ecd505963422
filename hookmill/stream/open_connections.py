"""The open connections to one server: who uses one, and who waits for one.

The connections of many workers must leave room for those of receivers. So a worker bounds its own.
What may last long never has the last one: a heartbeat does not wait behind a large body.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from hookmill.errors import StreamUnavailableError

ASKING_CONNECTIONS = 2
"""The connections of a worker for commands that do not block: to take and to settle at once."""

CONNECTIONS_OF_WORKER = ASKING_CONNECTIONS + 3
"""All connections of a worker in a lane: one waits for messages, one for what is delayed, and one
renews its leases.
"""


class OpenConnections:
    """Connections that are kept open. `most` is how many there may be; None: as many as are used
    at once. Those that wait for one get it in the order in which they came.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self.all: list[Any] = []
        self.free: list[Any] = []
        self._long = 0
        """How many are in use for something that may last long."""
        self._waiting: deque[tuple[bool, asyncio.Future[Any]]] = deque()

    async def get(
        self, make: Callable[[], Any], *, is_long: bool, patience: float | None = None
    ) -> Any:
        """Return a connection that nobody uses; `make` makes another one. Put it back. Raise
        `StreamUnavailableError` if none is free within `patience` seconds (None: wait for one
        however long that takes).
        """
        if self.most is not None and not self._may_get(is_long=is_long):
            return await self._wait(is_long=is_long, patience=patience)
        self._long += is_long
        if self.free:
            return self.free.pop()
        connection = make()
        self.all.append(connection)
        return connection

    def put_back(self, connection: Any, *, is_long: bool) -> None:
        """Put back what nobody uses any longer, or hand it on to one that waits."""
        self._long -= is_long
        for one in list(self._waiting):
            waits_long, future = one
            if not (waits_long and self._has_enough_long):
                self._waiting.remove(one)
                if not future.done():
                    self._long += waits_long
                    future.set_result(connection)
                    return
        self.free.append(connection)

    @property
    def _has_enough_long(self) -> bool:
        return self.most is not None and self._long >= max(1, self.most - 1)

    def _may_get(self, *, is_long: bool) -> bool:
        if is_long and self._has_enough_long:
            return False
        return bool(self.free) or self.most is None or len(self.all) < self.most

    async def _wait(self, *, is_long: bool, patience: float | None) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((is_long, future))
        try:
            async with asyncio.timeout(patience):
                return await future
        except (asyncio.CancelledError, TimeoutError) as error:
            if future.done() and not future.cancelled():
                self.put_back(future.result(), is_long=is_long)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise StreamUnavailableError(
                f"not sent: all {self.most} connections were in use for {patience:g} s, because "
                "Redis answers too slowly, or not at all"
            ) from None
