"""The bodies of messages that could not be stored are freed at once, not by the garbage collector:
a receiver makes so few objects that it runs seldom, and senders send such messages again and again.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

import pytest
import redis

from hookmill.stream.facts import Backlog
from receiver.appender import Appender
from tests.receiver.appending import PATIENT, append
from tests.receiver.spools import MIB, OpenSpool
from tests.support import Server, Stream, message

OURS = b"a body of these tests"
"""What the bodies contain. Other tests, which ran in this process before, may leave bodies too."""


class Cycles:
    """What only the garbage collector would free."""

    @property
    def bodies(self) -> int:
        """How many large bodies that is. Nothing is freed, so it can be asked only once."""
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        large = {
            id(found)
            for one in gc.garbage
            for found in gc.get_referents(one)
            if isinstance(found, bytes) and len(found) >= MIB and OURS in found
        }
        gc.garbage.clear()
        return len(large)


@pytest.fixture
def cycles() -> Iterator[Cycles]:
    gc.collect()
    gc.disable()
    yield Cycles()
    gc.enable()
    gc.collect()


async def send(appender: Appender, count: int) -> int:
    """Have large messages stored; return how many were refused."""
    messages = [message(id=f"m{number}", body=OURS + b"x" * MIB) for number in range(count)]
    results = await asyncio.gather(
        *(append(appender, one) for one in messages), return_exceptions=True
    )
    refused = sum(result is not None for result in results)
    results.clear()
    return refused


async def test_of_messages_that_the_spool_refuses(
    own_server: Callable[..., Server], open_spool: OpenSpool, cycles: Cycles
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    server.kill()
    appender = Appender(stream, PATIENT, await open_spool(limit=MIB))
    assert await send(appender, 3) == 3
    await stream.close()
    assert cycles.bodies == 0


async def test_of_messages_that_a_full_backlog_refuses(
    server: Server, prefix: str, cycles: Cycles
) -> None:
    stream = Stream(server.url, prefix, limit=Backlog(1, 0))
    await stream.append([message(id="first")])
    assert await send(Appender(stream, PATIENT), 3) == 3
    await stream.close()
    assert cycles.bodies == 0


async def test_of_messages_that_were_sent_to_a_server_without_the_script(
    server: Server, prefix: str, redis_client: redis.Redis, cycles: Cycles
) -> None:
    stream = Stream(server.url, prefix)
    await stream.append([message(id="first")])
    redis_client.script_flush()
    assert await send(Appender(stream, PATIENT), 3) == 0
    await stream.close()
    assert cycles.bodies == 0


async def test_of_messages_that_are_not_durable_enough(
    own_server: Callable[..., Server], cycles: Cycles
) -> None:
    server = own_server("--appendonly", "yes")
    stream = Stream(server.url, "t", durability="aof")
    await stream.append([message(id="first")])
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendonly", "no")
    assert await send(Appender(stream, PATIENT), 1) == 1  # it is written, and then not synced
    await stream.close()
    assert cycles.bodies == 0
