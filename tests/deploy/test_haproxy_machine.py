"""A real HAProxy with the configuration of a machine without containers, in front of receivers."""

from __future__ import annotations

import csv
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.authority import Issuer, rsa_key
from tests.deploy.balancer import HAPROXY, Site, balancing, get
from tests.deploy.reading import DEPLOY
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, wait_until

OF_THE_PACKAGE = re.compile(r"    (?:log /dev/log|chroot|user|group) .*\n")
"""Users and folders that HAProxy's package makes."""

Receiver = tuple[Server, Callable[[int], Program]]

pytestmark = [
    pytest.mark.external,
    pytest.mark.one_server,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed"),
]


@pytest.fixture
def control() -> Iterator[Path]:
    """A path for HAProxy's socket; such a path has to be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


def config(folder: Path, port: int, receivers: list[int], control: Path) -> Path:
    """The shipped configuration, with the ports, paths and a certificate of this machine."""
    key = rsa_key("balancer")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "hookmill.pem").write_bytes(Issuer("a", time.time()).issue(["a"], key) + pem)
    text, left_out = OF_THE_PACKAGE.subn("", (DEPLOY / "haproxy-machine.cfg").read_text())
    assert left_out == 4
    for shipped, ours in (
        ("/run/haproxy/admin.sock", str(control)),
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/haproxy/hookmill.pem", str(folder / "hookmill.pem")),
        ("127.0.0.1:8081", f"127.0.0.1:{receivers[0]}"),
        ("127.0.0.1:8082", f"127.0.0.1:{receivers[1]}"),
        ("inter 1s", "inter 200ms"),
        ("maxconn 20000", "maxconn 1000"),  # so few descriptors suffice
    ):
        text, times = re.subn(rf"{re.escape(shipped)}\b", ours, text, count=1)
        assert times == 1, shipped
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


def is_up(control: Path, name: str) -> bool:
    """Return whether HAProxy sends deliveries to a server."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        connection.sendall(b"show stat\n")
        table = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    rows = csv.DictReader(table.removeprefix("# ").splitlines())
    return any(row["svname"] == name and row["status"] == "UP" for row in rows)


def trusting() -> ssl.SSLContext:
    """The context of a sender that looks at no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
def receiver(own_server: Callable[..., Server], start_program: Callable[..., Program]) -> Receiver:
    server = own_server()
    env = {"REDIS_URL": server.url, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}
    env |= {"HOOKMILL_HOST": "127.0.0.1", "HOOKMILL_DRAIN": "2"}

    def start(port: int) -> Program:
        started = start_program("receiver", env=env | {"PORT": str(port)})
        started.wait_for('"receiving"')
        return started

    return server, start


def test_receivers_that_are_restarted_one_after_the_other_fail_no_delivery(
    receiver: Receiver, control: Path, tmp_path: Path
) -> None:
    server, start = receiver
    port, ports, done = free_port(), [free_port(), free_port()], Event()
    site = Site(port, [start(each) for each in ports], server, trusting())

    def send() -> list[int]:
        statuses: list[int] = []
        while not done.is_set():
            statuses.append(site.deliver(len(statuses)))
            time.sleep(0.01)  # a steady trickle leaves the machine to others
        return statuses

    configuration = config(tmp_path, port, ports, control)
    with balancing(site, configuration), ThreadPoolExecutor() as sender:
        sent = sender.submit(send)
        try:
            for number, each in enumerate(ports):
                assert site.receivers[number].stop() == 0
                site.receivers[number] = start(each)
                wait_until(partial(is_up, control, f"receiver-{number + 1}"))
        finally:
            done.set()
        statuses = sent.result()
        assert set(statuses) == {200}
        assert site.stored == len(statuses)
        assert {site.send(get(path)) for path in ("/readyz", "/healthz", "/", "/qstash")} == {404}
