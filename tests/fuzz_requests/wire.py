"""A connection on which the fuzz run writes raw bytes, and reads what comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress

TIME_LIMIT = 20.0
"""Seconds for an answer. A later one counts as no answer."""

PATIENCE = 0.1
"""Seconds for the answer to a malformed request, before the run closes its side as well."""


class Wire:
    """A connection on which the run writes raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    async def answer(self, *, is_head: bool) -> tuple[int, bytes, bool]:
        """Read one answer. Return its status, its body, and whether the connection stays open."""
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                if status >= 200:
                    break
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            count = int(length[1]) if length and not is_head else 0
            body = await self._reader.readexactly(count)
        return status, body, b"\r\nConnection: close" not in head

    async def answers(self, *, waits: bool) -> list[tuple[int, bytes]]:
        """Read until the receiver closes the connection. Return the status of each answer, with all
        that was read. Without `waits`, close our side after a moment, because the receiver may wait
        for the rest of the request.
        """
        found = b""
        try:
            if not waits:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        found = await self._reader.read(65_536)
                self._end()
            async with asyncio.timeout(TIME_LIMIT):
                while chunk := await self._reader.read(65_536):
                    found += chunk
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            # The connection was reset, because the receiver closed it without reading all bytes.
        return [(int(one), found) for one in _statuses(found)]

    def _end(self) -> None:
        if not self._writer.is_closing():
            self._writer.write_eof()


def _statuses(found: bytes) -> Iterator[bytes]:
    return (match[1] for match in re.finditer(rb"HTTP/1\.[01] ([2-5]\d\d) ", found))
