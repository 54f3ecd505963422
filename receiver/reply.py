"""An answer as HTTP has it, and how it is written. No I/O."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from aiohttp.http import SERVER_SOFTWARE


class Reply(NamedTuple):
    """A status, a body, and the headers beside those that every answer has."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def render(self, *, is_last: bool = False) -> bytes:
        """Write all of it; the last answer of a connection says so."""
        headers = (*self.headers, _CLOSE) if is_last else self.headers
        return _head(self.status, headers, len(self.body), int(time.time())) + self.body


_CLOSE = ("Connection", "close")


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...], length: int, second: int) -> bytes:
    """Write what comes before a body: the same for all answers of a kind within a second."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if status != HTTPStatus.NO_CONTENT:  # it has no length, for it never has a body (RFC 9110, 8.6)
        lines.append(f"Content-Length: {length}")
    lines += [f"Date: {formatdate(second, usegmt=True)}", f"Server: {SERVER_SOFTWARE}", "\r\n"]
    return "\r\n".join(lines).encode()
