"""One of several servers is asked, and one that is silent or away holds up nobody."""

from __future__ import annotations

import asyncio

import pytest

from hookmill.errors import StreamUnavailableError
from hookmill.stream.first_answer import first_answer
from tests.ports import free_port
from tests.support import Server


async def test_a_silent_server_is_passed_over_and_its_connection_closed(server: Server) -> None:
    closed = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        writer.close()
        closed.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        url = f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        found = await first_answer([url, server.url], ("ECHO", "mine"), None)
        assert found == (server.url, b"mine")
        async with asyncio.timeout(20):
            await closed.wait()


async def test_a_server_that_is_away_or_says_nothing_of_use_is_passed_over(server: Server) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    assert await first_answer([away, server.url], ("ECHO", "mine"), None) == (server.url, b"mine")
    with pytest.raises(StreamUnavailableError, match="GET no-such-key: it does not know"):
        await first_answer([away, server.url], ("GET", "no-such-key"), None)
    with pytest.raises(StreamUnavailableError, match="no server to ask"):
        await first_answer([], ("PING",), None)
