"""Commands follow their keys to another server, and what has run is not forgotten on the way."""

from __future__ import annotations

import asyncio
import re

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.moving import Address, MovingConnections
from hookmill.stream.reply_errors import KeysElsewhereError
from tests.ports import free_port
from tests.stream.toolkit import blocked
from tests.support import Server, eventually


class Told:
    """Knows the address that it was told last."""

    def __init__(self, known: Address) -> None:
        self.known = known

    async def find(self) -> Address:
        return self.known

    def doubt(self) -> None:
        pass

    def moved(self, address: Address) -> None:
        self.known = address


class Unknown(Told):
    """Never says anything."""

    async def find(self) -> Address:
        await asyncio.Event().wait()
        return self.known


async def test_a_command_waits_no_longer_than_usual_for_the_address_of_its_server() -> None:
    connections = MovingConnections("redis://127.0.0.1", 0.05, Unknown(Address("127.0.0.1", 1)))
    with pytest.raises(StreamUnavailableError, match="nobody has told within"):
        await connections.ask([("PING",)])
    await connections.close()


async def test_a_wait_is_ended_also_where_the_server_is_elsewhere_by_now(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with Client(server.url, prefix) as client:
        source = Told(Address("127.0.0.1", server.port))
        client.servers = [MovingConnections(server.url, 5.0, source)]
        waits = client.blocking(0)
        waiting = asyncio.create_task(
            waits.ask(("BLPOP", f"{prefix}:list", 60), 60, can_be_ended=True)
        )
        await eventually(lambda: blocked(redis_client) == 1)
        source.known = Address("127.0.0.1", free_port())
        await waits.end_wait()
        async with asyncio.timeout(30):
            assert await waiting is None
        assert waits.was_dropped
        await waits.close()


async def test_where_the_new_server_gives_no_reply_those_of_the_old_one_still_count() -> None:
    gone = Address("127.0.0.1", free_port())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            for name in re.findall(rb"\r\n(CLIENT|SET|INCR)\r\n", some):
                moved = f"-MOVED 1 {gone.host}:{gone.port}\r\n".encode()
                writer.write(moved if name == b"INCR" else b"+OK\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as old:
        source = Told(Address(*old.sockets[0].getsockname()))
        connections = MovingConnections("redis://127.0.0.1", 5.0, source)
        ran, moved = await connections.ask([("SET", "a", 1), ("INCR", "b")])
        assert ran == b"OK"
        assert isinstance(moved, StreamUnavailableError)
        assert not isinstance(moved, KeysElsewhereError)
        assert source.known == gone
        await connections.close()
