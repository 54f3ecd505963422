"""The appenders of all lanes, as one: a queue for each lane, so that a server that is away holds up
only the messages that belong there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hookmill.message import Message
from hookmill.stream.arrival import partition_of
from receiver.appender import Appender
from receiver.responses import BUSY, OnResult, Result


class LaneAppenders:
    """Does what `Appender` does. `lanes` are the appenders by partition. Each lane has its even
    share of `most_waiting` messages and of `most_bytes`; beyond that its senders get 503.
    """

    def __init__(
        self, lanes: Mapping[int, Appender], *, most_waiting: int, most_bytes: int
    ) -> None:
        self._lanes = lanes
        self._appenders = [*dict.fromkeys(lanes.values())]
        several = len(self._appenders)
        self._most_waiting = -(-most_waiting // several)
        self._most_bytes = -(-most_bytes // several)
        self._bytes = dict.fromkeys(self._appenders, 0)

    @property
    def waiting(self) -> int:
        """How many messages wait to be stored."""
        return sum(lane.waiting for lane in self._appenders)

    def put(self, message: Message, on_result: OnResult) -> None:
        """Queue a message in its lane."""
        lane = self._lanes[partition_of(message, len(self._lanes))]
        size = len(message.body) + len(message.header_block)
        held = self._bytes[lane]
        if lane.waiting >= self._most_waiting or (held and held + size > self._most_bytes):
            asyncio.get_running_loop().call_soon(on_result, BUSY)
            return
        self._bytes[lane] = held + size

        def count_and_tell(result: Result) -> None:
            self._bytes[lane] -= size
            on_result(result)

        lane.put(message, count_and_tell)

    def write_in(self, wire_version: int) -> None:
        """Write the next batches in this wire version."""
        for lane in self._appenders:
            lane.write_in(wire_version)

    async def close(self) -> None:
        """Wait until everything in the queues is written."""
        await asyncio.gather(*(lane.close() for lane in self._appenders))
