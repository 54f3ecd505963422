"""Where others never recover: the master is demoted, and the connections to it stay open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from tests.e2e.line import Line
from tests.peers.road import Road
from tests.support import Program, Server, Stream, eventually, message

OwnServer = Callable[..., Server]

MEMORY = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")

WITHIN = 5.0
"""Seconds after a switch within which everything works again, as the guarantees say."""

BINARIES = ["valkey", pytest.param("redis", marks=pytest.mark.external)]


class Pair:
    """A master and its replica, and a proxy that leads to the master."""

    def __init__(self, own_server: OwnServer, binary: str) -> None:
        self.old = own_server(*MEMORY, binary=binary)
        self.new = own_server(
            *MEMORY, "--replicaof", "127.0.0.1", str(self.old.port), binary=binary
        )
        self.road = Road(self.old.port)

    async def open(self) -> str:
        with redis.Redis.from_url(self.new.url) as client:
            await eventually(lambda: self._info(client)["master_link_status"] == "up")
        return await self.road.open()

    async def switch(self) -> None:
        """Demote the master in place, as an operator does: it ends no connection of a client."""
        with redis.Redis.from_url(self.old.url) as old, redis.Redis.from_url(self.new.url) as new:
            offset = self._info(old)["master_repl_offset"]
            await eventually(lambda: self._info(new)["slave_repl_offset"] >= offset)
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", str(self.new.port))
        self.road.lead_to(self.new.port)

    @staticmethod
    def _info(client: redis.Redis) -> Any:
        return client.info("replication")


@pytest.fixture
async def pair(own_server: OwnServer, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    made = Pair(own_server, request.param)
    yield made
    await made.road.close()


on_each_binary = pytest.mark.parametrize("pair", BINARIES, indirect=True)
on_one_binary = pytest.mark.parametrize("pair", ["valkey"], indirect=True)


@on_each_binary
async def test_receiver_and_worker_go_on_after_their_master_was_demoted_behind_a_proxy(
    pair: Pair, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    """sidekiq/sidekiq#2550, redis/redis-py#935, celery/celery#10119: the worker is silent and the
    receiver answers 503, until somebody cuts the connections.
    """
    line = Line(start_program, tmp_path, await pair.open(), "hookmill")
    # In threads, because the programs' connections go through this event loop.
    receiver = await asyncio.to_thread(line.receiver)
    worker = await asyncio.to_thread(line.worker, HOOKMILL_LEASE="1")
    assert await line.send(line.order(n) for n in range(20)) == {200: 20}
    await asyncio.to_thread(line.wait_for_handled, 20)
    await pair.switch()
    switched = time.monotonic()
    handled = await until_handled(line, 100)
    assert handled - switched < WITHIN, worker.log
    assert await line.send(line.order(n) for n in range(200, 220)) == {200: 20}
    await asyncio.to_thread(line.wait_for_handled, 41)
    assert [receiver.returncode, worker.returncode] == [None, None]
    stopped = [await asyncio.to_thread(program.stop) for program in (receiver, worker)]
    assert stopped == [0, 0]
    assert set(line.noted().values()) == {1}


async def until_handled(line: Line, number: int) -> float:
    """Send one message until it is accepted, and return when it was handled."""

    async def is_accepted() -> bool:
        return await line.send([line.order(number)]) == {200: 1}

    await eventually(is_accepted)
    await eventually(lambda: f"msg_{number}" in line.noted(), timeout=30)
    return time.monotonic()


@on_one_binary
async def test_the_first_refusal_drops_every_idle_connection(pair: Pair) -> None:
    stream = Stream(await pair.open(), "t")
    await stream.append([message()])
    await asyncio.gather(*(stream.client.execute(0, "PING") for _ in range(4)))
    await pair.switch()
    with pytest.raises(StreamUnavailableError, match="replica"):
        await stream.append([message()])
    with redis.Redis.from_url(pair.old.url) as old:
        # What is left is this client's own connection.
        await eventually(lambda: len(old.client_list(_type="normal")) == 1)
    await stream.append([message(id="after")])
    await stream.close()


@on_one_binary
async def test_a_wait_that_the_demotion_ends_drops_the_others_and_is_no_lost_group(
    pair: Pair,
) -> None:
    stream = Stream(await pair.open(), "t")
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    waits = [asyncio.create_task(wait(60)) for wait in (group.wait, group.wait_for_sooner)]
    with redis.Redis.from_url(pair.old.url) as old:
        await eventually(lambda: old.info("clients")["blocked_clients"] == 2)
        await pair.switch()
        assert not any(await asyncio.gather(*waits))
    await stream.append([message(id="after")])
    assert [entry.fields[b"id"] for entry in (await group.take(5)).entries] == [b"after"]
    await group.close()
    await stream.close()


@on_one_binary
async def test_leases_are_renewed_at_the_new_master(pair: Pair) -> None:
    stream = Stream(await pair.open(), "t")
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    leases = group.leases()
    assert await asyncio.to_thread(leases.renew, [entry.ref]) == []
    await pair.switch()
    with pytest.raises(StreamUnavailableError):
        await asyncio.to_thread(leases.renew, [entry.ref])
    assert await asyncio.to_thread(leases.renew, [entry.ref]) == []
    leases.close()
    await group.close()
    await stream.close()


class InTurns(list[Any]):
    """Free connections that are used in turns, as if other commands took the last one."""

    def append(self, connection: Any) -> None:
        self.insert(0, connection)


@on_one_binary
async def test_a_script_is_run_where_it_was_loaded_though_connections_lead_to_two_servers(
    pair: Pair,
) -> None:
    """A proxy kept one connection to the old server, and a new one leads to a server that has seen
    no script: NOSCRIPT for ever, if the script is loaded over one and run over the other.
    """
    stream = Stream(await pair.open(), "t")
    await asyncio.gather(*(stream.client.execute(0, "PING") for _ in range(2)))
    pair.road.lead_to(pair.new.port)
    with redis.Redis.from_url(pair.new.url) as new, redis.Redis.from_url(pair.old.url) as old:
        new.replicaof("NO", "ONE")
        (server,) = stream.client.servers
        await server.opened.free[0].disconnect()  # the next use of this one leads to the new server
        server.opened.free = InTurns(server.opened.free)
        for _ in range(4):
            new.script_flush()
            old.script_flush()
            assert await stream.append([message()])
    await stream.close()


@on_one_binary
async def test_a_wait_that_an_operator_ends_is_no_lost_group(pair: Pair) -> None:
    stream = Stream(await pair.open(), "t")
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    with redis.Redis.from_url(pair.old.url) as old:
        for wait in (group.wait, group.wait_for_sooner):
            await end(old, wait)
    await group.close()
    await stream.close()


async def end(client: redis.Redis, wait: Callable[[float], Coroutine[Any, Any, object]]) -> None:
    waiting = asyncio.create_task(wait(60))
    await eventually(lambda: client.info("clients")["blocked_clients"] == 1)
    (blocked,) = (row["id"] for row in client.client_list() if "b" in row["flags"])
    client.client_unblock(int(blocked), error=True)
    assert not await waiting
