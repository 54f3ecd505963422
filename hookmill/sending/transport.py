"""HTTP for the sender: makes a request, and retries it until its result is known.

This is the only module of the sender that does I/O. `retry_policy` decides what follows from a
response, and `send_errors` writes the error.
"""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from hookmill.sending.exchange import HttpRequest, HttpResponse, NoResponse
from hookmill.sending.public_addresses import NOT_PUBLIC, fault_of_public_url, is_public
from hookmill.sending.retry_policy import UNREADABLE, RetryPolicy, decide
from hookmill.sending.send_errors import SHOWN_CHARACTERS, RequestInfo, send_error

CONNECTIONS_PER_HOST = 100

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
"""Bytes of a response that are read."""

_T = TypeVar("_T")


class Transport:
    """Makes requests over connections that it keeps. The first request opens it.

    With `only_public` it connects to public addresses only. `resolver` finds the addresses of host
    names; None: the operating system does.
    """

    def __init__(
        self, *, only_public: bool = False, resolver: AbstractResolver | None = None
    ) -> None:
        self._only_public = only_public
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the session's
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections. Requests that are under way fail."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        info: RequestInfo,
        make: Callable[[], HttpRequest],
        read: Callable[[HttpResponse], _T | None],
        retry_policy: RetryPolicy,
    ) -> _T:
        """Make the request until `read` can read a response, and return what it read.

        `make` builds the request of each attempt. Raises `SendError`.
        """
        started, may_have_counted = time.monotonic(), False

        def is_too_late(after: float) -> bool:
            # The next attempt may reach the server at the end of its own time limit. Even then it
            # has to be within the window.
            return time.monotonic() - started + after + retry_policy.total > info.window

        for attempt in count(1):
            request = make()
            outcome = self._unusable(info) or await self._attempt(info, request, retry_policy)
            decision = decide(outcome, retry_policy.patience, time.time())
            if decision.action == "accept" and isinstance(outcome, HttpResponse):
                found = read(outcome._replace(may_be_duplicate=may_have_counted))
                if found is not None:
                    return found
                decision = UNREADABLE
            may_have_counted |= decision.may_have_counted
            pause = retry_policy.pause(attempt, decision.wait)
            is_last = decision.action == "give up" or attempt >= retry_policy.attempts
            if is_last or is_too_late(pause):
                break
            await asyncio.sleep(pause)
            if is_too_late(0):  # this process was stopped during the pause
                break
        raise send_error(
            info, outcome, decision,
            attempts=attempt, may_have_counted=may_have_counted, now=time.time(),
        )  # fmt: skip

    async def _attempt(
        self, info: RequestInfo, request: HttpRequest, retry_policy: RetryPolicy
    ) -> HttpResponse | NoResponse:
        """Make the request once. An error is returned, because aiohttp's contains the token."""
        limits = aiohttp.ClientTimeout(total=retry_policy.total, connect=retry_policy.connect)
        try:
            async with self._open().request(
                request.method,
                _url(info.base, request.target),
                data=_payload(request.body),
                headers=request.headers,
                allow_redirects=False,  # a redirect would send the token to another server
                timeout=limits,
            ) as response:
                body = await _read(response, whole=info.needs_body)
                return HttpResponse(response.status, response.headers, body)
        except (_ConnectionLostError, aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error, retry_policy)

    def _unusable(self, info: RequestInfo) -> NoResponse | None:
        """Return why no request can be made; None where one can."""
        reason = "the sender is closed: make another" if self._is_closed else ""
        if self._loop not in {None, asyncio.get_running_loop()}:
            reason = "the sender was opened in another event loop: make one in each"
        if reason:
            return NoResponse(reason, may_have_arrived=False, is_final=True)
        fault = fault_of_public_url(info.base) if self._only_public else ""
        return _refused(fault) if fault else None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # requests to a slow host must not block those to other hosts
                    limit_per_host=CONNECTIONS_PER_HOST,
                    resolver=self._resolver,
                    socket_factory=_public_socket if self._only_public else None,
                ),
                # A proxy would connect for us, to an address that we never see.
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "hookmill"},
                middlewares=(_without_aiohttps_retry,),
            )
        return self._session


def _failure(error: Exception, retry_policy: RetryPolicy) -> NoResponse:
    """Return what an error of an attempt means. The order matters: the types are subclasses."""
    match error:
        case aiohttp.ClientConnectorError(os_error=_NotPublicError()):
            return _refused(NOT_PUBLIC)
        case aiohttp.ConnectionTimeoutError():
            reason = f"no connection within {retry_policy.connect:g} s"
            return NoResponse(reason, may_have_arrived=False)
        case TimeoutError():
            return NoResponse(f"no response within {retry_policy.total:g} s")
        case aiohttp.ClientConnectorCertificateError():
            reason = f"the certificate is refused: {error}"
            return NoResponse(reason, may_have_arrived=False, is_final=True)
        case aiohttp.ClientConnectorError():
            return NoResponse(str(error), may_have_arrived=False)
        case aiohttp.InvalidURL():
            reason = f"the URL cannot be requested: {error}"
            return NoResponse(reason, may_have_arrived=False, is_final=True)
        case ValueError():
            return NoResponse(f"HTTP cannot express the request: {error}", is_final=True)
        case _:
            return NoResponse(f"the connection was lost ({_cause_of(error)})")


def _cause_of(error: Exception) -> str:
    """Return why a connection was lost, without the URL and without what the server wrote."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the response's body is incomplete, or not what its headers say"
    cause = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return cause.partition(":")[0].strip() or type(error).__name__


def _refused(reason: str) -> NoResponse:
    return NoResponse(reason, may_have_arrived=False, is_final=True, is_refused=True)


class _NotPublicError(OSError):
    """An address is not public. An `OSError`, so that aiohttp tries the host's next address."""


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Make the socket for a connection to a public address. Raises `_NotPublicError`.

    aiohttp calls it with the address that it connects to next. So the check does not depend on how
    the address was written, or on what a name server answers later.
    """
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise _NotPublicError(NOT_PUBLIC)
    return socket.socket(family, kind, protocol)


class _ConnectionLostError(Exception):
    """A connection was lost; its text names the error that said so."""


async def _without_aiohttps_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Make a request only once.

    When a kept connection is lost, aiohttp itself repeats a request that HTTP calls idempotent. We
    would not learn that the first request may have taken effect.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError(type(error).__name__) from None


def _url(base: str, target: str) -> URL:
    scheme, _, authority = base.partition("://")
    # Built from parts, because parsing would rewrite the target.
    return URL.build(scheme=scheme, authority=authority, path=target, encoded=True)


def _payload(body: bytes) -> io.BytesIO | None:
    # A stream is written in pieces, so that a large body does not block the event loop.
    return io.BytesIO(body) if body else None


async def _read(response: aiohttp.ClientResponse, *, whole: bool) -> bytes:
    """Return the whole body; where the status is enough, its beginning."""
    if not (whole and 200 <= response.status < 300):
        try:
            return await response.content.read(SHOWN_CHARACTERS)
        except (aiohttp.ClientError, TimeoutError):
            return b""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            return b""  # no reply of the API is that long
    return bytes(body)
