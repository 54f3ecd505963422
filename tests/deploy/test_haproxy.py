"""A real HAProxy with the shipped configuration, in front of real receivers."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.balancer import HAPROXY, Site, balancing, get, signed
from tests.deploy.reading import DEPLOY
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed"),
]


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
    found = Site(port, receivers, server)
    with balancing(found, config(tmp_path, port, ports)):
        yield found


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
