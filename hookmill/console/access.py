"""Who may look and who may act: tokens, sessions, one-time links, and the login of a proxy.

No I/O. Sessions live in this process alone: after a restart one logs in again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Literal

import msgspec

from hookmill.config.settings import Settings

Role = Literal["reader", "operator"]

MAX_SESSIONS = 1000
"""Sessions at a time; one more ends the one that was used longest ago."""

MAX_NAME = 80
"""Characters of a person's name."""

ATTEMPTS, ATTEMPTS_OF_ALL = 10, 200
"""Logins a minute that may fail from one address, and from all of them."""

ATTEMPTS_PERIOD = 60.0

IDLE_SHARE = 1 / 8
"""The share of a session's longest time after which it ends without a request."""


class Viewer(msgspec.Struct, frozen=True):
    """Who asks for a page. Without a role, they have to log in first. `csrf` is what their forms
    carry. Only who has logged in here `can_log_out`.
    """

    role: Role | None = None
    name: str = ""
    csrf: str = ""
    can_log_out: bool = False

    @property
    def may_act(self) -> bool:
        """Whether they may change something."""
        return self.role == "operator"


class _Session(msgspec.Struct):
    role: Role
    name: str
    csrf: str
    began: float
    used: float


class Access:
    """Knows the tokens and the sessions. `clock` is monotonic, in seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        operator, reader = settings.console_tokens
        tokens: list[tuple[Role, str | None]] = [("operator", operator), ("reader", reader)]
        self._tokens = [(role, token.encode()) for role, token in tokens if token]
        self._proxies = frozenset(settings.console_trusted_proxies)
        self._trusted_role: Role = settings.console_trusted_role
        self._longest = settings.console_session
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._links: dict[bytes, Role] = {}
        self._sessions: dict[bytes, _Session] = {}
        self._failures: dict[str, deque[float]] = {}
        self._failures_of_all: deque[float] = deque(maxlen=ATTEMPTS_OF_ALL)

    @property
    def needs_login(self) -> bool:
        """Whether nobody sees anything without a login."""
        return bool(self._tokens or self._proxies)

    @property
    def has_tokens(self) -> bool:
        """Whether one can log in with a token."""
        return bool(self._tokens)

    def viewer(
        self, session: str, peer: str, named: Sequence[str] = (), *, by_itself: bool = False
    ) -> Viewer:
        """Return who asks. `session` is their cookie, `peer` the address of their connection,
        `named` what the trusted header says. A page that loads itself again (`by_itself`) does not
        keep a session alive.
        """
        if plain_address(peer) in self._proxies and len(named) == 1 and (name := named[0].strip()):
            key = hmac.digest(self._key, name.encode(errors="surrogatepass"), "sha256")
            return Viewer(self._trusted_role, name[:MAX_NAME], key.hex())
        if not self.needs_login:
            return Viewer("reader")
        found = self._sessions.get(_digest(session)) if session else None
        if found is None or self._has_ended(found):
            return Viewer()
        if not by_itself:
            found.used = self._clock()
        return Viewer(found.role, found.name, found.csrf, can_log_out=True)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return from which address a login comes. `forwarded` is its `X-Forwarded-For`: each proxy
        adds its client at the end, so only what a trusted one has added counts.
        """
        address, listed = plain_address(peer), ",".join(forwarded).split(",")
        while address in self._proxies and listed and (before := _address(listed.pop().strip())):
            address = before
        return address

    def is_locked(self, peer: str) -> bool:
        """Return whether so many logins have failed that no more are tried for now."""
        since = self._clock() - ATTEMPTS_PERIOD
        failed = self._failures.get(peer, ())
        of_all = self._failures_of_all
        return sum(at > since for at in failed) >= ATTEMPTS or (
            len(of_all) == ATTEMPTS_OF_ALL and of_all[0] > since
        )

    def log_in(self, token: str, peer: str, name: str = "") -> str | None:
        """Return a new session's cookie; None where the token is wrong, which is counted."""
        given = token.strip().encode(errors="surrogatepass")
        # Each is compared, so that the time does not tell which of them was nearly right.
        roles = [role for role, right in self._tokens if hmac.compare_digest(given, right)]
        roles += [role] if (role := self._links.pop(_digest(token), None)) else []
        if not roles:
            self._count_failure(peer)
            return None
        cookie, now = secrets.token_urlsafe(32), self._clock()
        self._drop_ended()
        self._sessions[_digest(cookie)] = _Session(
            roles[0], name.strip()[:MAX_NAME], secrets.token_urlsafe(32), now, now
        )
        return cookie

    def log_out(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(session), None)

    def make_link(self) -> str:
        """Return a code that logs one person in, once, as an operator."""
        code = secrets.token_urlsafe(24)
        self._links[_digest(code)] = "operator"
        return code

    def is_link(self, code: str) -> bool:
        """Return whether this code would log somebody in."""
        return _digest(code) in self._links

    def _count_failure(self, peer: str) -> None:
        if len(self._failures) >= MAX_SESSIONS:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(peer, deque(maxlen=ATTEMPTS)).append(self._clock())
        self._failures_of_all.append(self._clock())

    def _has_ended(self, session: _Session) -> bool:
        now = self._clock()
        return (
            now - session.began >= self._longest or now - session.used >= self._longest * IDLE_SHARE
        )

    def _drop_ended(self) -> None:
        ended = [key for key, session in self._sessions.items() if self._has_ended(session)]
        if len(self._sessions) - len(ended) >= MAX_SESSIONS:
            ended.append(min(self._sessions, key=lambda key: self._sessions[key].used))
        for key in set(ended):
            del self._sessions[key]


def is_right(viewer: Viewer, csrf: str) -> bool:
    """Return whether a form carries what this viewer's forms carry, compared in constant time."""
    given = csrf.encode(errors="surrogatepass")
    return bool(viewer.csrf) and hmac.compare_digest(given, viewer.csrf.encode())


def plain_address(peer: str) -> str:
    """Return an IP address in its usual form; an IPv4 address that came as IPv6 is that address."""
    return _address(peer) or peer


def _address(text: str) -> str | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _digest(text: str) -> bytes:
    # Kept as a digest, so that the time of a look-up tells nothing about a code or a cookie.
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
