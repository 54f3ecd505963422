"""The port of several receivers: whose connections wait where, and who may not have it."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from hookmill.runtime import shared_port
from hookmill.runtime.shared_port import HAS_OWN_SOCKETS, SharedPort

HOST = "127.0.0.1"

only_where_each_has_a_socket = pytest.mark.skipif(
    not HAS_OWN_SOCKETS, reason="this system does not spread connections over several sockets"
)


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=5)


@only_where_each_has_a_socket
def test_the_port_that_the_system_chose_is_the_same_for_all_and_connections_are_spread() -> None:
    port = SharedPort(HOST, 0)
    all_sockets = [port.open() for _ in range(2)]
    for (one,) in all_sockets:
        assert one.getsockname() == (HOST, port.number)
        one.listen()
        one.settimeout(0)
    made = [connect(port.number) for _ in range(64)]
    counts = []
    for (one,) in all_sockets:
        counts.append(0)
        while True:
            try:
                made.append(one.accept()[0])
            except BlockingIOError:
                break
            counts[-1] += 1
    assert sum(counts) == 64
    assert all(counts)
    for each in (*made, *(one for (one,) in all_sockets)):
        each.close()
    port.close()


@only_where_each_has_a_socket
def test_nothing_listens_before_a_process_does_and_after_the_last_gave_up() -> None:
    port = SharedPort(HOST, 0)
    sockets = port.open()
    with pytest.raises(ConnectionRefusedError):
        connect(port.number)
    sockets[0].listen()
    connect(port.number).close()
    port.give_up(sockets)
    with pytest.raises(ConnectionRefusedError):
        connect(port.number)
    port.close()


def test_elsewhere_all_have_the_same_socket_which_none_of_them_closes() -> None:
    port = SharedPort(HOST, 0, own_sockets=False)
    first, second = port.open(), port.open()
    assert first is second
    first[0].listen()
    port.give_up(first)
    connect(port.number).close()
    port.close()


@pytest.mark.parametrize("own_sockets", [True, False])
def test_a_port_that_somebody_listens_on_is_refused(
    own_sockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_port, "TRIES", 2)
    monkeypatch.setattr(shared_port, "PAUSE", 0.01)
    with closing(socket.socket()) as other:
        # It would share the port, if it was asked to.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(OSError, match="Address already in use"):
            SharedPort(HOST, other.getsockname()[1], own_sockets=own_sockets)


def test_both_families_have_the_same_port() -> None:
    try:
        port = SharedPort("", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    sockets = port.open()
    assert {one.getsockname()[1] for one in sockets} == {port.number}
    if HAS_OWN_SOCKETS:
        port.give_up(sockets)
    port.close()
