"""A HAProxy with a shipped configuration, receivers behind it, and deliveries for it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from hookmill.signatures.marble import marble_scheme
from tests.support import MARBLE_SECRET, Program, Server, signed_headers, wait_until

HAPROXY = shutil.which("haproxy")


def signed(body: bytes, target: str = "/marble") -> bytes:
    """A delivery as Marble sends it."""
    headers = signed_headers(marble_scheme([MARBLE_SECRET]), body, target)
    rows = [f"{name}: {value}" for name, value in headers.items()]
    rows.append(f"Content-Length: {len(body)}")
    return get(target, *rows, method="POST") + body


class Site:
    """A balancer and two receivers."""

    def __init__(
        self,
        port: int,
        receivers: list[Program],
        server: Server,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self.receivers = receivers
        self.server = server
        self.tls = tls

    def send(self, request: bytes) -> int:
        """Send the bytes of a request, and return the status of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain:
            connection = self.tls.wrap_socket(plain) if self.tls else plain
            with connection:
                connection.sendall(request)
                return int(connection.recv(100).split(b" ")[1])

    def deliver(self, number: int) -> int:
        return self.send(signed(b'{"id":"evt_%d","type":"a.b"}' % number))

    @property
    def stored(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            length: Any = client.xlen("hookmill:{0}:stream")
            return int(length)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: hooks", *headers, "", ""]).encode()


@contextmanager
def balancing(site: Site, configuration: Path) -> Iterator[Site]:
    """Run HAProxy in front of the receivers of a site, until the block ends."""
    assert HAPROXY is not None
    path = configuration.with_suffix(".log")
    with path.open("wb") as log:
        balancer = subprocess.Popen([HAPROXY, "-db", "-f", configuration], stdout=log, stderr=log)
        try:
            wait_until(lambda: is_open(site.port) or balancer.poll() is not None)
            assert balancer.poll() is None, path.read_text()
            wait_until(lambda: site.send(b"POST /marble HTTP/1.1\r\nHost: a\r\n\r\n") == 401)
            yield site
        finally:
            balancer.kill()
            balancer.wait()
