"""Tokens, sessions and the login of a proxy, with a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.config.settings import Settings
from hookmill.console.access import ATTEMPTS, MAX_SESSIONS, Access, Viewer, is_right, plain_address
from tests.console.browsing import OPERATOR, READER
from tests.support import Clock

PEER = "192.0.2.7"


def access(clock: Clock | None = None, **fields: Any) -> Access:
    given = {"console_token": OPERATOR, "console_reader_token": READER, **fields}
    return Access(Settings(**given), clock or Clock())


@pytest.mark.parametrize(("token", "role"), [(OPERATOR, "operator"), (READER, "reader")])
def test_each_token_gives_its_role_and_the_name_that_was_told(token: str, role: str) -> None:
    ours = access()
    cookie = ours.log_in(f" {token}\n", PEER, " Ada ")
    assert cookie
    viewer = ours.viewer(cookie, PEER)
    assert (viewer.role, viewer.name, viewer.can_log_out) == (role, "Ada", True)
    assert viewer.may_act is (role == "operator")


@pytest.mark.parametrize("token", ["", "x", OPERATOR[:-1], OPERATOR + "x", "\udcff", "é"])
def test_another_token_gives_nothing(token: str) -> None:
    ours = access()
    assert ours.log_in(token, PEER) is None
    assert ours.viewer(token, PEER) == Viewer()


def test_a_session_ends_when_it_is_idle_and_at_its_longest_time() -> None:
    clock = Clock()
    ours = access(clock, console_session=800)
    cookie = ours.log_in(OPERATOR, PEER) or ""
    clock.now += 99
    assert ours.viewer(cookie, PEER).role
    clock.now += 99
    assert ours.viewer(cookie, PEER, by_itself=True).role
    clock.now += 2
    assert not ours.viewer(cookie, PEER).role  # what a page loads by itself is no use of it

    cookie = ours.log_in(OPERATOR, PEER) or ""
    for _ in range(8):
        assert ours.viewer(cookie, PEER).role
        clock.now += 99
    clock.now += 8
    assert not ours.viewer(cookie, PEER).role


def test_a_session_that_was_ended_is_over() -> None:
    ours = access()
    cookie = ours.log_in(OPERATOR, PEER) or ""
    ours.log_out(cookie)
    assert not ours.viewer(cookie, PEER).role


def test_the_session_that_was_used_longest_ago_makes_room() -> None:
    clock = Clock()
    ours = access(clock)
    first, second = ours.log_in(OPERATOR, PEER) or "", ours.log_in(OPERATOR, PEER) or ""
    clock.now += 1
    ours.viewer(first, PEER)
    for _ in range(MAX_SESSIONS - 1):
        clock.now += 0.001
        ours.log_in(READER, PEER)
    assert ours.viewer(first, PEER).role
    assert not ours.viewer(second, PEER).role


def test_failed_logins_lock_an_address_for_a_minute_and_not_the_others() -> None:
    clock = Clock()
    ours = access(clock)
    for _ in range(ATTEMPTS):
        assert not ours.is_locked(PEER)
        ours.log_in("wrong", PEER)
    assert ours.is_locked(PEER)
    assert not ours.is_locked("192.0.2.8")
    clock.now += 61
    assert not ours.is_locked(PEER)


def test_a_link_logs_one_person_in_once() -> None:
    ours = access()
    code = ours.make_link()
    assert ours.is_link(code)
    cookie = ours.log_in(code, PEER)
    assert cookie
    assert ours.viewer(cookie, PEER).role == "operator"
    assert not ours.is_link(code)
    assert ours.log_in(code, PEER) is None


def test_without_a_token_everybody_may_look_and_nobody_may_act() -> None:
    viewer = Access(Settings()).viewer("", "127.0.0.1")
    assert viewer.role == "reader"
    assert not viewer.may_act
    assert not is_right(viewer, "")


PROXY: dict[str, Any] = {
    "console_trusted_header": "X-User",
    "console_trusted_proxies": "10.0.0.5,::1",
    "console_trusted_role": "operator",
}


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "0:0:0:0:0:0:0:1"])
def test_a_proxy_says_who_asks(peer: str) -> None:
    viewer = access(**PROXY).viewer("", peer, ["ada"])
    assert (viewer.role, viewer.name) == ("operator", "ada")
    assert is_right(viewer, viewer.csrf)


@pytest.mark.parametrize(
    ("peer", "named"),
    [("10.0.0.6", ["ada"]), ("", ["ada"]), ("10.0.0.5", []), ("10.0.0.5", [" "]),
     ("10.0.0.5", ["ada", "bob"])],
)  # fmt: skip
def test_nobody_else_does(peer: str, named: list[str]) -> None:
    ours = Access(Settings(**PROXY))
    assert ours.needs_login
    assert ours.viewer("", peer, named) == Viewer()


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [("10.0.0.5", ["192.0.2.7"], "192.0.2.7"),
     ("10.0.0.5", ["192.0.2.8, 192.0.2.7"], "192.0.2.7"),
     ("10.0.0.5", ["192.0.2.8", "::ffff:192.0.2.7"], "192.0.2.7"),
     ("::1", ["192.0.2.8,192.0.2.7 , 10.0.0.5"], "192.0.2.7"),
     ("10.0.0.5", ["10.0.0.5"], "10.0.0.5"),
     ("10.0.0.5", [], "10.0.0.5"),
     ("10.0.0.5", ["192.0.2.7, unknown"], "10.0.0.5"),
     ("10.0.0.6", ["192.0.2.7"], "10.0.0.6"),
     ("unix", ["192.0.2.7"], "unix")],
)  # fmt: skip
def test_a_login_comes_from_where_the_trusted_proxy_and_nobody_else_says(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert access(**PROXY).client(peer, forwarded) == client


def test_what_is_no_address_stays_as_it_is() -> None:
    assert plain_address("fe80::1%eth0") == "fe80::1"
    assert plain_address("unix") == "unix"
