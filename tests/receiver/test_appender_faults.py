"""Group commit when Redis, a sender or the log fails: who is told, and what goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from hookmill.runtime.log_pace import LogPace
from hookmill.stream.producer import Producer
from receiver import appender as appender_module
from receiver.appender import Appender
from receiver.responses import FAULT, Refusal, Result
from tests.receiver.appending import (
    PATIENT,
    NotStoredError,
    append,
    blocked_clients,
    numbered,
    stored_ids,
)
from tests.receiver.serving import paused
from tests.support import Clock, Server, Stream, eventually, message

UNSTORED = Refusal(503, "stream_unavailable", "the message could not be stored; send it again")


def refusals(results: Sequence[BaseException | None]) -> list[Result]:
    return [result.args[0] for result in results if isinstance(result, NotStoredError)]


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


async def test_what_is_put_in_with_the_refusal_of_another_gets_its_result_as_well(
    own_server: Callable[..., Server],
) -> None:
    """With the answer to a delivery the one that its sender has sent after it is taken."""
    server = own_server()
    appender = Appender(Stream(server.url, "t"), 5.0)
    server.kill()
    results: list[Result] = []

    def put_another(result: Result) -> None:
        results.append(result)
        appender.put(message(id="behind"), results.append)

    appender.put(message(id="first"), put_another)
    await eventually(lambda: len(results) == 2)
    assert results == [UNSTORED] * 2
    assert appender.waiting == 0


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


async def test_an_outage_is_logged_once_a_batch_and_then_from_time_to_time(
    own_server: Callable[..., Server], lines: list[dict[str, Any]]
) -> None:
    server = own_server("--save", "", "--maxmemory", "1", "--maxmemory-policy", "noeviction")
    stream, clock = Stream(server.url, "t"), Clock()
    appender = Appender(stream, 5.0)
    appender._log_pace = LogPace(clock)
    for batch in range(4):
        each = [append(appender, message(id=f"m{batch}-{n}")) for n in range(3)]
        results = await asyncio.gather(*each, return_exceptions=True)
        assert all(isinstance(result, NotStoredError) for result in results)
        clock.now += 4
    assert [(line["id"], line["messages"], line.get("failures")) for line in lines] == [
        ("m0-0", 3, None),
        ("m3-0", 3, 4),
    ]
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 0)
    await append(appender, message())
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
    with pytest.raises(NotStoredError):
        await append(appender, message(id="next"))
    assert lines[-1]["id"] == "next"
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
