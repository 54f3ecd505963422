"""Group commit with real servers: few round trips, order kept, a result for every request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.message import Message
from hookmill.stream.arrival import Row
from hookmill.stream.producer import Producer
from receiver import appender as appender_module
from receiver.appender import Appender
from tests.receiver.appending import PATIENT, append, blocked_clients, numbered, stored_ids
from tests.receiver.serving import HELLO, StartReceiver, Stored, deliver, paused, round_trips
from tests.support import eventually, message


async def append_while_one_is_under_way(
    appender: Appender, messages: list[Message], client: redis.Redis
) -> None:
    """Append the first message; while Redis delays it, put the rest into the queue."""
    with paused(client):
        first = asyncio.create_task(append(appender, messages[0]))
        await eventually(lambda: appender._writing and not appender._queue)
        rest = [asyncio.create_task(append(appender, one)) for one in messages[1:]]
        await eventually(lambda: len(appender._queue) == len(rest))
    await asyncio.gather(first, *rest)


async def test_what_arrives_in_one_tick_is_one_round_trip_in_the_order_of_arrival(
    patient: Producer, redis_client: redis.Redis
) -> None:
    appender = Appender(patient, PATIENT)
    before = round_trips(redis_client)
    await asyncio.gather(*(append(appender, one) for one in numbered(100)))
    assert round_trips(redis_client) - before == 1
    assert stored_ids(redis_client, patient) == [f"m{number}" for number in range(100)]


async def test_what_arrives_during_an_append_forms_the_next_one(
    patient: Producer, redis_client: redis.Redis
) -> None:
    before = round_trips(redis_client)
    await append_while_one_is_under_way(Appender(patient, PATIENT), numbered(17), redis_client)
    assert round_trips(redis_client) - before == 2
    assert stored_ids(redis_client, patient) == [f"m{number}" for number in range(17)]


async def test_senders_that_wait_for_their_answers_share_the_round_trips_evenly(
    patient: Producer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender sends again when it is answered, so batches of 4 and 60 would alternate for ever."""
    batches: list[int] = []
    begun = asyncio.Event()
    append_rows = patient.append_rows

    async def counting(rows: Sequence[Row]) -> list[Any]:
        batches.append(len(rows))
        begun.set()
        return await append_rows(rows)

    monkeypatch.setattr(patient, "append_rows", counting)
    appender = Appender(patient, PATIENT)

    async def sender(name: int) -> None:
        for turn in range(10):
            await append(appender, message(id=f"m{name}-{turn}"))

    first = [asyncio.create_task(sender(name)) for name in range(4)]
    await begun.wait()
    await asyncio.gather(*first, *(sender(name) for name in range(4, 64)))
    assert batches[0] == 4
    assert batches[2:12] == [32] * 10


async def test_an_append_returns_only_when_the_message_is_in_the_stream(
    patient: Producer, redis_client: redis.Redis
) -> None:
    appender = Appender(patient, PATIENT)
    with paused(redis_client):
        waiting = asyncio.create_task(append(appender, message(id="m1")))
        await eventually(lambda: blocked_clients(redis_client) == 1)
        assert not waiting.done()
        assert stored_ids(redis_client, patient) == []
    await waiting
    assert stored_ids(redis_client, patient) == ["m1"]


async def test_more_messages_than_a_batch_may_have_are_split(
    patient: Producer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "BATCH_MESSAGES", 3)
    appender = Appender(patient, PATIENT)
    before = round_trips(redis_client)
    await asyncio.gather(*(append(appender, one) for one in numbered(10)))
    assert round_trips(redis_client) - before == 4
    assert stored_ids(redis_client, patient) == [f"m{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([50, 50], 1),  # exactly full
        ([50, 51], 2),
        ([60, 60, 60], 3),
        ([500, 10, 10], 2),  # larger than a batch may be: alone
        ([10, 500, 10], 3),
        ([10, 10, 10], 1),
    ],
)
@pytest.mark.parametrize("field", ["body", "header_block"])
async def test_more_bytes_than_a_batch_may_have_are_split(
    patient: Producer,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    batches: int,
    field: str,
) -> None:
    monkeypatch.setattr(appender_module, "BATCH_BYTES", 100)
    appender = Appender(patient, PATIENT)
    before = round_trips(redis_client)
    empty = {"body": b"", "header_block": b""}
    await asyncio.gather(
        *(append(appender, message(**empty | {field: b"x" * size})) for size in sizes)
    )
    assert round_trips(redis_client) - before == batches
    assert len(stored_ids(redis_client, patient)) == len(sizes)


async def test_closing_waits_for_the_appends_that_are_under_way(
    patient: Producer, redis_client: redis.Redis
) -> None:
    appender = Appender(patient, PATIENT)
    with paused(redis_client):
        waiting = asyncio.create_task(append(appender, message(id="m1")))
        await eventually(lambda: blocked_clients(redis_client) == 1)
        waiting.cancel()
        closing = asyncio.create_task(appender.close())
    await closing
    assert appender._writing is None
    assert stored_ids(redis_client, patient) == ["m1"]
    await appender.close()  # nothing is being written


async def test_concurrent_deliveries_arrive_in_few_round_trips(
    start: StartReceiver, http: aiohttp.ClientSession, redis_client: redis.Redis, stored: Stored
) -> None:
    running = await start(append_timeout=10)
    assert (await deliver(running, http))[0] == 200  # the script is loaded in the server now
    before = round_trips(redis_client)
    with paused(redis_client):
        posted = [
            asyncio.create_task(deliver(running, http, b"%d" % number)) for number in range(100)
        ]
        await eventually(lambda: running.receiver._http.in_flight == 100)
        # All but the first batch wait in the queue, and form the second.
        await eventually(lambda: len(running.receiver._appenders[0]._queue) >= 1)
    assert {answer[0] for answer in await asyncio.gather(*posted)} == {200}
    assert round_trips(redis_client) - before <= 10
    bodies = {entry[b"body"] for entry in stored()}
    assert bodies == {b"%d" % number for number in range(100)} | {HELLO}
    assert len(stored()) == 101
