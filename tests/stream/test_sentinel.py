"""Where the master is, as sentinels say it. `tests/e2e/test_sentinel.py` has real ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hookmill.errors import StreamUnavailableError
from hookmill.stream.moving import Address
from hookmill.stream.sentinel import MasterAddress
from hookmill.stream.topology import server_list_of

_COMMAND = re.compile(rb"\r\n(AUTH|CLIENT|SENTINEL)\r\n(?:\$\d+\r\n(\w+))?")


class Sentinel:
    """Says where a master is to who knows its password."""

    def __init__(self) -> None:
        self.password = b"old"
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            for name, word in _COMMAND.findall(some):
                reply = b"+OK"
                if name == b"AUTH" and word != self.password:
                    reply = b"-WRONGPASS invalid username-password pair"
                if name == b"SENTINEL":
                    reply = b"*2\r\n$5\r\nplace\r\n$4\r\n6379"
                writer.write(reply + b"\r\n")
        writer.close()


@pytest.fixture
async def sentinel() -> AsyncIterator[Sentinel]:
    made = Sentinel()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made


async def test_a_new_password_of_the_sentinels_is_read_from_the_file(
    sentinel: Sentinel, tmp_path: Path
) -> None:
    file = tmp_path / "url"

    def write(password: str, port: int | str = sentinel.port) -> str:
        url = f"redis+sentinel://127.0.0.1:{port}/main?sentinel_password={password}"
        file.write_text(url + "\n")
        return url

    source = MasterAddress(server_list_of(write("old")).urls, "main", file)
    assert await source.find() == Address("place", 6379)

    sentinel.password, source.known = b"new", None
    with pytest.raises(StreamUnavailableError, match="no sentinel tells where the master 'main'"):
        await source.find()
    write("new", "port")  # somebody has just begun to write it
    with pytest.raises(StreamUnavailableError, match="no sentinel tells where the master 'main'"):
        await source.find()
    write("new")
    assert await source.find() == Address("place", 6379)
