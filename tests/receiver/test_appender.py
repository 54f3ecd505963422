"""Group commit with real servers: few round trips, order kept, a result for every request."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.message import Message
from hookmill.stream.arrival import Row
from hookmill.stream.producer import Producer
from receiver import appender as appender_module
from receiver.appender import Appender
from receiver.responses import FAULT, Refusal, Result
from tests.receiver.serving import HELLO, StartReceiver, Stored, deliver, paused, round_trips
from tests.support import Server, Stream, eventually, message

PATIENT = 10.0
"""Seconds for a round trip in tests that delay Redis on purpose."""


@pytest.fixture
async def patient(server: Server, prefix: str) -> AsyncIterator[Producer]:
    """A stream with a long timeout. Its script is loaded in the server already."""
    opened = Stream(server.url, prefix, timeout=PATIENT)
    await opened.append([message(id="warm-up")])
    await opened.client.execute(0, "DEL", opened.partitions[0].stream)
    yield opened
    await opened.close()


UNSTORED = Refusal(503, "stream_unavailable", "the message could not be stored; send it again")


class NotStoredError(Exception):
    """A message was not stored; its one argument is the refusal."""


def refusals(results: Sequence[BaseException | None]) -> list[Result]:
    return [result.args[0] for result in results if isinstance(result, NotStoredError)]


def stored_ids(client: redis.Redis, stream: Producer) -> list[str]:
    entries: Any = client.xrange(stream.partitions[0].stream)
    return [fields[b"id"].decode() for _, fields in entries]


async def append(appender: Appender, message: Message) -> None:
    """Return when a message is stored; raise the refusal if it is not."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    appender.put(message, done.set_result)
    result = await done
    if result is not None:
        raise NotStoredError(result)


def numbered(count: int, **fields: Any) -> list[Message]:
    return [message(id=f"m{number}", **fields) for number in range(count)]


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


def blocked_clients(client: redis.Redis) -> int:
    stats: Any = client.info("clients")
    return int(stats["blocked_clients"])


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


async def test_one_that_gives_up_while_it_waits_does_not_disturb_the_others(
    patient: Producer, redis_client: redis.Redis
) -> None:
    appender = Appender(patient, PATIENT)
    with paused(redis_client):
        waiting = [asyncio.create_task(append(appender, one)) for one in numbered(9)]
        await eventually(lambda: blocked_clients(redis_client) == 1)
        waiting += [asyncio.create_task(append(appender, message(id="late")))]
        await eventually(lambda: len(appender._queue) == 1)
        for given_up in (waiting[0], waiting[4], waiting[9]):  # being written, and in the queue
            given_up.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    kept = [number for number in range(9) if number not in {0, 4}]
    assert [results[number] for number in kept] == [None] * 7
    await eventually(lambda: appender._writing is None)
    stored = stored_ids(redis_client, patient)
    assert [one for one in stored if one in {f"m{number}" for number in kept}] == [
        f"m{number}" for number in kept
    ]
    assert len(stored) == len(set(stored))


async def test_a_refused_connection_fails_all_waiting_appends_and_none_after_the_recovery(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    appender = Appender(stream, 5.0)
    server.kill()
    results = await asyncio.gather(
        *(append(appender, one) for one in numbered(5)), return_exceptions=True
    )
    assert refusals(results) == [UNSTORED] * 5
    server.start()
    await append(appender, message(id="after"))
    assert await stream.client.execute(0, "XLEN", stream.partitions[0].stream) == 1
    await stream.close()


async def test_a_frozen_server_fails_the_sent_and_the_queued_appends_but_not_later_ones(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    appender = Appender(stream, 2.0)
    await append(appender, message(id="before"))
    server.signal(signal.SIGSTOP)
    under_way = asyncio.create_task(append(appender, message(id="under way")))
    await eventually(lambda: appender._writing and not appender._queue)
    queued = [asyncio.create_task(append(appender, one)) for one in numbered(4)]
    await eventually(lambda: len(appender._queue) == 4)
    queued.pop(1).cancel()
    await asyncio.wait([under_way])
    assert all(one.done() for one in queued)  # without a second timeout
    results = await asyncio.gather(under_way, *queued, return_exceptions=True)
    assert refusals(results) == [UNSTORED] * 4
    assert not appender._queue  # they were refused, so they must not be appended later
    server.signal(signal.SIGCONT)
    await append(appender, message(id="after"))
    with redis.Redis.from_url(server.url) as client:
        ids = stored_ids(client, stream)
    assert (ids[0], ids[-1]) == ("before", "after")
    assert not {"m0", "m1", "m2", "m3"} & set(ids)
    await stream.close()


async def test_an_error_of_redis_itself_is_logged_with_its_reason(
    own_server: Callable[..., Server], lines: list[dict[str, Any]]
) -> None:
    server = own_server("--save", "", "--maxmemory", "1", "--maxmemory-policy", "noeviction")
    stream = Stream(server.url, "t")
    with pytest.raises(NotStoredError):
        await append(Appender(stream, 5.0), message(id="m1"))
    (line,) = lines
    assert (line["event"], line["id"]) == ("append failed", "m1")
    assert "maxmemory" in line["error"]
    await stream.close()


async def test_the_timeout_counts_the_whole_round_trip_and_is_logged(
    own_server: Callable[..., Server], lines: list[dict[str, Any]]
) -> None:
    server = own_server()
    stream = Stream(server.url, "t", timeout=20.0)  # the client alone would wait much longer
    server.signal(signal.SIGSTOP)
    with pytest.raises(NotStoredError):
        await append(Appender(stream, 0.2), message())
    assert [line["error"] for line in lines] == ["no answer within 0.2 s"]
    server.signal(signal.SIGCONT)
    await stream.close()


async def test_a_fault_of_our_own_fails_its_appends_and_none_waits_for_ever(
    patient: Producer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    appender = Appender(patient, PATIENT)
    unwritable = message(id="\ud800")  # a lone surrogate has no UTF-8
    with pytest.raises(NotStoredError) as raised:
        await append(appender, unwritable)
    assert raised.value.args == (FAULT,)
    assert "UnicodeEncodeError" in caplog.text
    await append(appender, message(id="after"))
    assert stored_ids(redis_client, patient) == ["after"]


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


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("closed file")])
async def test_a_log_that_cannot_be_written_keeps_nothing_from_being_stored(
    stream: Producer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(appender_module.log, "info", fail, raising=False)
    monkeypatch.setattr(appender_module, "BATCH_MESSAGES", 1)  # one waits behind the other
    appender = Appender(stream, PATIENT)
    await asyncio.gather(*(append(appender, one) for one in numbered(2)))
    await appender.close()
    assert stored_ids(redis_client, stream) == ["m0", "m1"]


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
        await eventually(lambda: len(running.receiver._appender._queue) >= 1)
    assert {answer[0] for answer in await asyncio.gather(*posted)} == {200}
    assert round_trips(redis_client) - before <= 10
    bodies = {entry[b"body"] for entry in stored()}
    assert bodies == {b"%d" % number for number in range(100)} | {HELLO}
    assert len(stored()) == 101


async def test_a_log_that_cannot_be_written_keeps_no_sender_from_its_answer(
    own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(appender_module.log, "error", fail, raising=False)
    server = own_server()
    stream = Stream(server.url, "t", timeout=1.0)
    server.kill()
    with pytest.raises(NotStoredError):
        await append(Appender(stream, 1.0), message())
    await stream.close()
