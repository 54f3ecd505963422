"""A receiver that is quieted and stopped: nothing in flight is lost, and the stop has an end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from tests.receiver.serving import (
    Connect,
    StartReceiver,
    Stored,
    delivery,
    paused,
    request_bytes,
)
from tests.support import (
    eventually,
)

pytestmark = pytest.mark.usefixtures("lines")


async def test_quiet_says_unready_accepts_deliveries_and_lets_go_of_connections(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(request_bytes(b"", target="/readyz", method="GET"))
    assert (await wire.answer()).status == 200
    running.receiver.quiet()
    await wire.send(request_bytes(b"", target="/readyz", method="GET"))
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (503, "close")
    assert b'"stopping"' in answer.body
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"]))
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    wire = await connect(running)
    await wire.send(request_bytes(b"", target="/healthz", method="GET"))
    assert (await wire.answer()).status == 200


async def test_the_time_for_load_balancers_is_part_of_the_deadline(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(shutdown=25)
    running.receiver.quiet()
    assert running.receiver._quiet_since is not None
    running.receiver._quiet_since -= 20
    given: list[float] = []

    async def stop(seconds: float) -> int:
        given.append(seconds)
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(running.receiver._http, "stop", stop)
        await running.receiver.stop()
    assert 0 < given[0] <= 5
    await running.receiver._http.stop(0)


async def test_stopping_lets_a_delivery_in_flight_finish_and_refuses_new_connections(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis, stored: Stored
) -> None:
    running = await start(append_timeout=10)
    idle, wire = await connect(running), await connect(running)
    await idle.send(request_bytes(b"", target="/healthz", method="GET"))
    await idle.answer()
    with paused(redis_client):
        await wire.send(delivery(running.sources["qstash"]))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        stopping = asyncio.create_task(running.receiver.stop())
        await eventually(lambda: running.receiver._http.is_quiet)
        with pytest.raises(ConnectionRefusedError):
            await connect(running)
        assert not stopping.done()
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert len(stored()) == 1
    await stopping
    assert await idle.rest() == b""


async def test_stopping_waits_for_a_body_that_is_still_on_its_way(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    request = delivery(running.sources["qstash"])
    await wire.send(request[:-5])
    await eventually(lambda: running.receiver._http.in_flight == 1)
    stopping = asyncio.create_task(running.receiver.stop())
    await eventually(lambda: not running.receiver._http._runner.sites)
    await wire.send(request[-5:])
    assert (await wire.answer()).status == 200
    await stopping
    assert len(stored()) == 1


async def test_stopping_does_not_wait_longer_than_its_deadline(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
) -> None:
    running = await start(shutdown=0, read_timeout=3600)
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"])[:-5])
    await eventually(lambda: running.receiver._http.in_flight == 1)
    await running.receiver.stop()
    assert await wire.rest() == b""  # no answer: the sender still holds the message
    assert {"event": "requests cut off", "count": 1, "log_level": "warning"} in lines
    assert stored() == []


async def test_stopping_twice_is_stopping_once(start: StartReceiver) -> None:
    running = await start()
    await running.receiver.stop()
    await running.receiver.stop()
