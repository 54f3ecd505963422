"""Writes answers as bytes of HTTP/1.1, where aiohttp does not write them. No I/O."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp.http import SERVER_SOFTWARE

from receiver.responses import Headers, Reply

_CLOSE = ("Connection", "close")


def render(reply: Reply, *, is_last: bool = False) -> bytes:
    """Return an answer as bytes of HTTP/1.1. `is_last`: the connection is closed after it."""
    headers = (*reply.headers, _CLOSE) if is_last else reply.headers
    return _head(reply.status, headers, len(reply.body), int(time.time())) + reply.body


@lru_cache(maxsize=64)
def _head(status: int, headers: Headers, length: int, second: int) -> bytes:
    """Return what comes before a body. Cached, because it is often the same within a second."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if status != HTTPStatus.NO_CONTENT:  # a 204 must not have a length (RFC 9110, 8.6)
        lines.append(f"Content-Length: {length}")
    lines += [f"Date: {formatdate(second, usegmt=True)}", f"Server: {SERVER_SOFTWARE}", "\r\n"]
    return "\r\n".join(lines).encode()
