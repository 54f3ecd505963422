"""The limit: XREADGROUP and XACK in a loop, on a plain socket with hiredis.

There is no handler, no decoding and no deduplication.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any
from urllib.parse import urlsplit

import hiredis
from counting import MESSAGES, URL, Counter

STREAM = os.environ["BENCH_STREAM"]
COUNT = int(os.environ.get("BENCH_COUNT", "256"))


class Connection:
    """A blocking connection. It sends one command, or several together."""

    def __init__(self) -> None:
        parts = urlsplit(URL)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def call(self, *command: Any) -> Any:
        """Send a command and return its reply."""
        self._socket.sendall(hiredis.pack_command(command))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 18))
        return reply


def main() -> None:
    connection, counter, left = Connection(), Counter(), MESSAGES
    connection.call("XGROUP", "CREATE", STREAM, "bare", "0")
    while left > 0:
        reply = connection.call(
            "XREADGROUP", "GROUP", "bare", "one", "COUNT", COUNT, "STREAMS", STREAM, ">"
        )
        entries = reply[0][1]
        connection.call("XACK", STREAM, "bare", *(entry[0] for entry in entries))
        counter.count(len(entries))
        left -= len(entries)
    signal.pause()  # its memory is measured before it is ended


main()
