"""A load generator with a constant rate, which wrk lacks. `python -m benchmarks.loadgen`.

It avoids coordinated omission: each request has a time at which it is due, and its latency counts
from that time, even if all connections were still busy then. It sleeps in `select`, whose timeout
is exact to microseconds. An event loop's epoll rounds to milliseconds, which would be measured.
"""

from __future__ import annotations

import argparse
import re
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Outcome(msgspec.Struct):
    """The result of a run. Latencies are in seconds, from the time at which a request was due.
    `began_ns` is when the first one was due (ns since 1970).
    """

    latencies: list[float]
    refused: int
    longest_queue: int
    began_ns: int = 0


class Connection:
    """A connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._answer = b""

    def fileno(self) -> int:
        """Return the socket's number, for `select`."""
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time."""
        self.due = due
        self._answer = b""
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """Read what has arrived; return the status when the response is complete."""
        more = self.socket.recv(65_536)
        if not more:
            raise ConnectionError("the server closed a connection")
        self._answer += more
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        is_whole = end and len(body) >= (int(length[1]) if length else 0)
        return head[9:12] if is_whole else b""


def run(
    port: int, requests: list[bytes], rate: float, connections: int, warm_up: float = 0.0
) -> Outcome:
    """Send requests at a rate per second. Those of the first `warm_up` seconds do not count."""
    free = deque(Connection(port) for _ in range(connections))
    busy: set[Connection] = set()
    outcome = Outcome([], 0, 0, time.time_ns())
    began = time.perf_counter()
    number = 0
    while number < len(requests) or busy:
        now = time.perf_counter()
        due = began + number / rate
        if number < len(requests) and free and due <= now:
            connection = free.popleft()
            connection.send(requests[number], due)
            busy.add(connection)
            number += 1
            continue
        late = int((now - began) * rate) - number
        outcome.longest_queue = max(outcome.longest_queue, min(late, len(requests) - number))
        can_send = number < len(requests) and free
        for connection in select.select(busy, (), (), max(0.0, due - now) if can_send else 1.0)[0]:
            if status := connection.receive():
                busy.remove(connection)
                free.append(connection)
                if connection.due >= began + warm_up:
                    outcome.latencies.append(time.perf_counter() - connection.due)
                    outcome.refused += status != b"200"
    for connection in free:
        connection.socket.close()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--requests", type=Path, required=True, help="a file of whole requests")
    parser.add_argument("--size", type=int, required=True, help="bytes of each")
    parser.add_argument("--count", type=int, required=True)
    given = parser.parse_args()
    with given.requests.open("rb") as file:
        requests = [file.read(given.size) for _ in range(given.count)]
    outcome = run(given.port, requests, given.rate, given.connections, given.warm_up)
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
