"""Counts what has arrived of a head or a body that is not whole, and bounds it. No I/O.

aiohttp limits each line of a head, and how many there are, but keeps all of it until it is whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader
from aiohttp.http_exceptions import BadHttpMessage

if TYPE_CHECKING:
    from receiver.connections import SenderConnections

HEAD_LIMIT = 64 * 1024
"""Bytes that a head may have. aiohttp limits each line and their number, which allows 1 MB."""

SMALL_HEAD = 4 * 1024
"""A head of at most so many bytes is not counted, because to count takes time."""

FEW_CHUNKS = 256
"""A body of at most so many chunks is not counted by its chunks."""

CHUNK_SIZE = 64
"""Bytes that aiohttp keeps for a chunk, besides its text, until a request has taken it over."""

USED = {"_messages", "_reading_paused", "_http_chunk_splits"}
"""The private attributes of aiohttp's connections and bodies that are used here."""

_TOO_LARGE = f"the head of a request has more than {HEAD_LIMIT} bytes"


class Unfinished:
    """The request of a connection that is still on its way."""

    def __init__(self, connection: Any, connections: SenderConnections) -> None:
        self._connection = connection
        self._connections = connections
        self.part_size = 0
        """How many bytes have arrived of a head that is not whole."""
        self.body: StreamReader | None = None
        """A body that is not whole."""
        self._body_size = 0
        """How much of that body has arrived."""
        self._beside_body = 0
        """How many bytes have arrived with that body and are no part of it, as its trailers."""

    def count(self, size: int, messages: Any) -> None:
        """Count the bytes of a head that is not whole: of the `size` bytes that have arrived, what
        belongs to no body and to no request in `messages`. Raise if a head is too large.
        """
        arrived, has_ended = size, False
        if self.body is not None:
            before, self._body_size = self._body_size, self.body.total_bytes
            size -= _size_of_body(self.body, before)
            if not self.body.is_eof():
                self._count_beside_body(size)
                self._count_chunks(self.body)
                return
            self.body, self._beside_body, has_ended = None, 0, True
        for head, body in messages:
            of_head = size_of_head(head.method, head.path, head.raw_headers)
            if of_head > HEAD_LIMIT:
                raise BadHttpMessage(_TOO_LARGE)
            size -= of_head + _size_of_body(body, 0)
            if not body.is_eof():
                self.body, self._body_size = body, body.total_bytes
                self._count_beside_body(self.part_size + size)
                self._count_chunks(body)
        self.part_size = max(0, self.part_size + size)
        if messages or has_ended:
            # So few bytes may also be the sizes of chunks, or spaces in headers.
            if self.part_size <= SMALL_HEAD or self.body is not None:
                self.part_size = 0
            elif arrived:
                self.part_size = min(self.part_size, arrived)
        elif self.part_size > HEAD_LIMIT and not self._connection._messages:
            # Else it may be requests, which wait until aiohttp has answered the ones before.
            raise BadHttpMessage(_TOO_LARGE)

    def _count_beside_body(self, size: int) -> None:
        """Count bytes that have arrived with a body and are no part of it. aiohttp keeps trailers
        until the body has ended, so with too many of them the connection is closed.
        """
        self._beside_body = max(0, self._beside_body + size)
        # While reading is paused, they may be parts of the body that are not parsed yet.
        if self._beside_body > SMALL_HEAD and not self._connection._reading_paused:
            self._connections.long_trailers(self._connection)

    def _count_chunks(self, body: Any) -> None:
        """Count the chunks of a body that is not whole. A read of small chunks becomes many times
        as large, and the event loop may read from hundreds of connections in one turn.
        """
        ends = body._http_chunk_splits
        if ends and len(ends) > FEW_CHUNKS:
            self._connections.reads(self._connection, CHUNK_SIZE * len(ends))


def size_of_head(method: str, target: str, raw_headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return how many bytes a head has as most senders write it."""
    headers = sum(len(name) + len(value) + 4 for name, value in raw_headers)
    return len(method) + len(target) + len(" HTTP/1.1\r\n\r\n") + 1 + headers


def _size_of_body(body: Any, before: int) -> int:
    """Return how many bytes a body has, beyond the first `before`, with the sizes of its chunks as
    most senders write them.
    """
    grown = int(body.total_bytes) - before
    ends = body._http_chunk_splits if grown else None
    if not ends:
        return grown
    # A size has one digit more for each 16 times that a chunk is longer.
    chunks = len(ends) - bisect_right(ends, before)
    return grown + chunks * len("1\r\n\r\n") + grown // 16
