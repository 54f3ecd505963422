"""Lanes have queues of their own: one that is stuck takes no more than its share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from hookmill.stream.arrival import partition_of
from hookmill.stream.producer import Producer
from receiver.appender import Appender
from receiver.lane_appenders import LaneAppenders
from receiver.responses import BUSY, Result
from tests.support import message

PATIENT = 15.0


class Stuck(Appender):
    """An appender whose messages wait for ever."""

    async def _write_batches(self) -> None:
        await asyncio.Event().wait()

    async def end(self) -> None:
        assert self._writing is not None
        self._writing.cancel()
        await asyncio.wait([self._writing])


def bodies_of(partition: int, count: int, size: int = 1) -> list[bytes]:
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        body = b"%d" % number + b"x" * size
        if partition_of(message(body), 2) == partition:
            found.append(body)
        number += 1
    return found


async def put_all(appenders: LaneAppenders, bodies: list[bytes]) -> list[Result | str]:
    """Put messages; return what became of each of them shortly after, "waits" where nothing."""
    results: list[Result | str] = ["waits"] * len(bodies)
    for number, body in enumerate(bodies):
        appenders.put(message(body), partial(results.__setitem__, number))
    await asyncio.sleep(0)
    return results


async def test_a_stuck_lane_takes_its_share_of_messages_and_bytes_and_no_more(
    stream: Producer,
) -> None:
    stuck, well = Stuck(stream, PATIENT), Appender(stream, PATIENT)
    lanes = LaneAppenders({0: stuck, 1: well}, most_waiting=8, most_bytes=2_000)
    assert await put_all(lanes, bodies_of(0, 6)) == ["waits"] * 4 + [BUSY] * 2
    assert lanes.waiting == 4
    results = await put_all(lanes, bodies_of(1, 4))
    await well.close()
    assert results == [None] * 4
    await stuck.end()

    stuck = Stuck(stream, PATIENT)
    lanes = LaneAppenders({0: stuck, 1: well}, most_waiting=8, most_bytes=2_000)
    assert await put_all(lanes, bodies_of(0, 3, size=600)) == ["waits", BUSY, BUSY]
    await stuck.end()


async def test_a_lane_has_room_again_once_its_messages_are_stored(stream: Producer) -> None:
    one, other = Appender(stream, PATIENT), Appender(stream, PATIENT)
    lanes = LaneAppenders({0: one, 1: other}, most_waiting=4, most_bytes=1_500)
    for _ in range(3):
        results = await put_all(lanes, bodies_of(0, 1, size=700))
        await lanes.close()
        assert results == [None]
    assert lanes.waiting == 0


async def test_an_appender_of_each_lane_writes_its_own_messages(stream: Producer) -> None:
    written: list[int] = []
    lanes = {0: Appender(stream, PATIENT), 1: Appender(stream, PATIENT)}
    for number, lane in lanes.items():
        lane.on_written = partial(_note, written, number)
    as_one = LaneAppenders(lanes, most_waiting=100, most_bytes=10_000)
    as_one.write_in(2)
    results = await put_all(as_one, [*bodies_of(0, 3), *bodies_of(1, 2)])
    await as_one.close()
    assert results == [None] * 5
    assert sorted(written) == [0, 0, 0, 1, 1]


def _note(written: list[int], number: int, batch: Sequence[object], _: object) -> None:
    written.extend([number] * len(batch))
