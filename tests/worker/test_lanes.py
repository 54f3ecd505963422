"""Lanes as one: a worker is well where one of them is, and what is wrong names its partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hookmill import Handlers
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from tests.ports import free_port
from tests.support import Server
from worker.consumption import Fault
from worker.dead_watchers import DeadWatchers
from worker.lane import Shared, WorkerLane
from worker.lanes import Lanes
from worker.slots import Slots
from worker.threads import HandlerThreads
from worker.unmatched import UnmatchedTypes

pytestmark = pytest.mark.one_server

MakeLanes = Callable[..., Lanes]


@pytest.fixture
async def lanes_on(prefix: str) -> AsyncIterator[MakeLanes]:
    """Lanes, each on the server of one of the given URLs."""
    threads, handlers = HandlerThreads(1), Handlers[Any]()
    shared = Shared(
        "w", Settings(), handlers, None, threads, Slots(1), DeadWatchers(handlers, None),
        UnmatchedTypes(handlers), (), None, str,
    )  # fmt: skip
    made: list[WorkerLane] = []

    def make(*urls: str) -> Lanes:
        clients = [
            Client(url, prefix, partitions=len(urls), only=[number])
            for number, url in enumerate(urls)
        ]
        lanes = [WorkerLane(client, shared) for client in clients]
        made.extend(lanes)
        return Lanes(lanes, threads)

    yield make
    for lane in made:
        await lane.close()
    threads.close()


def nowhere() -> str:
    return f"redis://127.0.0.1:{free_port()}"


async def test_one_answer_of_redis_is_enough_and_without_any_the_question_fails(
    server: Server, lanes_on: MakeLanes
) -> None:
    lanes = lanes_on(nowhere(), server.url)
    assert lanes.answered_at < 0
    await lanes.ask()
    assert lanes.answered_at > 0
    assert [lane.consumption.answered_at > 0 for lane in lanes.each] == [False, True]
    with pytest.raises(StreamUnavailableError):
        await lanes_on(nowhere(), nowhere()).ask()


async def test_what_a_watch_has_found_names_the_partition_where_there_are_several(
    server: Server, lanes_on: MakeLanes
) -> None:
    for urls, detail in (((server.url,), "why"), ((server.url,) * 2, "partition 1: why")):
        lanes = lanes_on(*urls)
        assert lanes.fault is None
        lanes.each[-1].consumption.fault = Fault("consumes_nothing", "why")
        assert lanes.fault == Fault("consumes_nothing", detail)


async def test_a_worker_can_take_as_long_as_one_lane_can(lanes_on: MakeLanes) -> None:
    lanes = lanes_on(nowhere(), nowhere())
    first, second = (lane.pool for lane in lanes.each)
    first._log_pace.failed()
    first.take_error = "away"
    assert (lanes.cannot_take, lanes.take_error) == (False, "away")
    second._log_pace.failed()
    assert lanes.cannot_take
