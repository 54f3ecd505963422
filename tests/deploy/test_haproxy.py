"""A real HAProxy with the shipped configuration, in front of real receivers."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.signatures.marble import marble_scheme
from tests.deploy.reading import DEPLOY
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, signed_headers, wait_until

HAPROXY = shutil.which("haproxy")

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed"),
]


def signed(body: bytes, target: str = "/marble") -> bytes:
    """A delivery as Marble sends it."""
    headers = signed_headers(marble_scheme([MARBLE_SECRET]), body, target)
    rows = [f"{name}: {value}" for name, value in headers.items()]
    rows.append(f"Content-Length: {len(body)}")
    return get(target, *rows, method="POST") + body


class Site:
    """A balancer and two receivers."""

    def __init__(self, port: int, receivers: list[Program], server: Server) -> None:
        self.port = port
        self.receivers = receivers
        self.server = server

    def send(self, request: bytes) -> int:
        """Send the bytes of a request, and return the status of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            return int(connection.recv(100).split(b" ")[1])

    def deliver(self, number: int) -> int:
        return self.send(signed(b'{"id":"evt_%d","type":"a.b"}' % number))

    @property
    def stored(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            length: Any = client.xlen("hookmill:{0}:stream")
            return int(length)


def config(folder: Path, port: int, receivers: list[int]) -> Path:
    """The shipped configuration, with ports and receivers that this machine has."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    text, bound = re.subn(r"bind :8080", f"bind 127.0.0.1:{port}", text)
    servers = "".join(
        f"    server r{number} 127.0.0.1:{receiver} check inter 200ms fall 2 rise 1\n"
        for number, receiver in enumerate(receivers)
    )
    text, templates = re.subn(r"    server-template .*\n", servers, text)
    text, most = re.subn(r"maxconn 20000", "maxconn 1000", text)  # so few descriptors suffice
    assert (bound, templates, most) == (1, 1, 1)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


@pytest.fixture
def site(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> Iterator[Site]:
    server, port = own_server(), free_port()
    ports = [free_port(), free_port()]
    env = {"REDIS_URL": server.url, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}
    env["HOOKMILL_HOST"] = "127.0.0.1"
    receivers = [start_program("receiver", env=env | {"PORT": str(one)}) for one in ports]
    for receiver in receivers:
        receiver.wait_for('"receiving"')
    assert HAPROXY is not None
    log = (tmp_path / "haproxy.log").open("wb")
    balancer = subprocess.Popen(
        [HAPROXY, "-db", "-f", config(tmp_path, port, ports)], stdout=log, stderr=log
    )
    found = Site(port, receivers, server)
    try:
        wait_until(lambda: is_open(port) or balancer.poll() is not None)
        assert balancer.poll() is None, (tmp_path / "haproxy.log").read_text()
        wait_until(lambda: found.send(b"POST /marble HTTP/1.1\r\nHost: a\r\n\r\n") == 401)
        yield found
    finally:
        balancer.kill()
        balancer.wait()
        log.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: hooks", *headers, "", ""]).encode()


INSIDE = [
    *("/healthz", "/readyz", "/metrics", "/", "/marble/", "/marble/x", "/marble/../readyz"),
    *("//readyz", "/readyz?/marble", "/%72eadyz", "/MARBLE", "/marble%2f", "/./metrics"),
    *("/readyz;/marble", "/readyz#/marble", "http://hooks/readyz", "http://marble/metrics"),
]


def test_only_the_sources_are_passed_on(site: Site) -> None:
    """A stranger got /metrics, /readyz and /healthz through the balancer."""
    answers = {target: site.send(get(target)) for target in INSIDE}
    assert set(answers.values()) <= {400, 404}, answers
    assert site.send(get("/readyz", "X-Forwarded-Path: /marble", method="HEAD")) == 404
    assert site.deliver(1) == 200
    assert site.send(signed(b'{"id":"evt_2","type":"a.b"}', "/marble?a=1")) == 200
    assert site.stored == 2


def test_a_receiver_that_stops_gets_no_more_deliveries_and_none_is_lost(site: Site) -> None:
    assert site.deliver(0) == 200
    site.receivers[0].signal(signal.SIGTERM)
    statuses = [site.deliver(number) for number in range(1, 200)]
    assert site.receivers[0].wait() == 0
    accepted = 1 + statuses.count(200)
    assert set(statuses) <= {200, 502, 503}  # its sender sends a delivery again after 502 or 503
    assert site.stored >= accepted > 100  # the answer of a stored one may be lost
